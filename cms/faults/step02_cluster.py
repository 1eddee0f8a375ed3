"""Step 2, configuration: the engine that the servers of a cluster share, and joining."""

from __future__ import annotations

from cms.faults.kinds import ConfigurationError, Fault, Side, StepWarning
from cms.signalflow import Step

_ALONE = " Until then this server goes on alone, and tries again."

CLUSTER_NOT_YET = Fault(
    "cluster-not-yet",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("503 of /healthz in the first second after a start",),
    cause="{node} has not joined the cluster yet, or has not heard yet who is at the others.",
    cure="Wait a few seconds; the log says if something keeps it out.",
)
CLUSTER_CUT_OFF = Fault(
    "cluster-cut-off",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("clients of one server do not reach those of another",),
    cause="{node} cannot renew its lease, so it is cut off from the other servers.",
    cure="Look at the engine and at the network to it; what is local goes on.",
    mend="redis-cli -h <host> ping",
)
ENGINE_UNREACHABLE = Fault(
    "engine-unreachable",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "the engine of the cluster cannot be reached",
        "Connection refused",
    ),
    cause="The engine of the cluster, {engine}, cannot be reached: {problem}.",
    cure="Start it, or correct cluster.engine." + _ALONE,
    mend="redis-cli -h <host> ping",
)
ENGINE_TLS = Fault(
    "engine-tls",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("certificate verify failed, for the engine",),
    cause="The certificate of the engine, {engine}, is refused: {problem}",
    cure=(
        "Give cluster.trust the CA that signed it, and connect to a name that is in its"
        " subjectAltName." + _ALONE
    ),
    mend='trust = "redis-ca.pem"     # [cluster] in xmpp.toml',
)
ENGINE_REFUSED = Fault(
    "engine-refused",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "WRONGPASS invalid username-password pair",
        "NOAUTH Authentication required",
        "NOPERM",
    ),
    cause="The engine of the cluster, {engine}, refuses this user: {problem}.",
    cure=(
        "Correct cluster.user and cluster.password; docs/operate.md has the rights that the user"
        " needs." + _ALONE
    ),
    mend="redis-cli -h <host> acl list",
)
ENGINE_OLD = Fault(
    "engine-old",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("the engine is too old",),
    cause="The engine of the cluster, {engine}, is Redis {version}; {least} or later is needed.",
    cure="Install a newer one." + _ALONE,
)
ENGINE_EVICTS = Fault(
    "engine-evicts",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("maxmemory-policy allkeys-lru",),
    cause=(
        "The engine of the cluster, {engine}, throws data away when its memory is full"
        " (maxmemory-policy {policy}), so servers would be forgotten."
    ),
    cure="Let it refuse to write instead, or give the cluster a Redis of its own." + _ALONE,
    mend="redis-cli config set maxmemory-policy noeviction     # and in redis.conf",
)
ENGINE_FULL = Fault(
    "engine-full",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("OOM command not allowed when used memory > 'maxmemory'",),
    cause="The engine of the cluster, {engine}, has no memory left.",
    cure="Give it more, or remove what else is in it." + _ALONE,
    mend="redis-cli info memory",
)
ENGINE_NOT_MASTER = Fault(
    "engine-not-master",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("READONLY You can't write against a read only replica",),
    cause="The engine of the cluster, {engine}, cannot be written: {problem}.",
    cure=(
        "Connect to the master; with Sentinels, let these name it"
        " (sentinel://HOST:26379/NAME)." + _ALONE
    ),
    mend="redis-cli role",
)
ENGINE_UNSAVED = Fault(
    "engine-unsaved",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("MISCONF Redis is configured to save RDB snapshots",),
    cause="The engine of the cluster, {engine}, takes nothing since it cannot save on its disk:"
    " {problem}.",
    cure=(
        "Make room on its disk, or let it go on without: nothing of the cluster needs to be saved."
        + _ALONE
    ),
    mend="redis-cli config set stop-writes-on-bgsave-error no     # and in redis.conf",
)
ENGINE_ALONE = Fault(
    "engine-alone",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("NOREPLICAS Not enough good replicas to write.",),
    cause="The engine of the cluster, {engine}, takes nothing since too few replicas follow it:"
    " {problem}.",
    cure="Start its replicas, or lower min-replicas-to-write." + _ALONE,
    mend="redis-cli info replication",
)
ENGINE_RIGHTS = Fault(
    "engine-rights",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=("NOPERM this user has no permissions to run the 'xadd' command",),
    cause="The engine of the cluster, {engine}, lets {user} not do {missing} with keys that begin"
    " with cms:.",
    cure="Give this user the rights that docs/operate.md names, for the keys cms:*.",
    mend=(
        "redis-cli acl setuser {user} ~cms:* +@connection +info +time +eval +exists +del +hget"
        " +hset +hsetnx +hdel +hgetall +xadd +xgroup +xreadgroup +xtrim     # and in redis.conf"
    ),
)
SENTINEL_UNREACHABLE = Fault(
    "sentinel-unreachable",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=("a Sentinel does not answer",),
    cause="The Sentinel {sentinel} cannot be asked: {problem}.",
    cure="Start it, or take it out of cluster.engine; the others are asked meanwhile.",
    mend="redis-cli -p 26379 ping",
)
SENTINEL_KNOWS_NOT = Fault(
    "sentinel-knows-not",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=("ERR No such master with that name",),
    cause="The Sentinel {sentinel} knows no master {master}.",
    cure="Let it watch that master, or correct the name in cluster.engine.",
    mend="redis-cli -p 26379 sentinel monitor {master} <host> 6379 2",
)
SENTINELS_DISAGREE = Fault(
    "sentinels-disagree",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=("Sentinels name different masters",),
    cause="The Sentinels of cluster.engine name different masters: {named}.",
    cure=(
        "If a failover is under way, check again in a minute. Otherwise let all watch the same"
        " master: servers that find different ones are different clusters."
    ),
    mend="redis-cli -p 26379 sentinel remove {master}     # and monitor, at those that err",
)
SENTINELS_NO_QUORUM = Fault(
    "sentinels-no-quorum",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=("NOQUORUM not enough available Sentinels",),
    cause="The Sentinel {sentinel} could make no replica the master if the master died: {problem}.",
    cure="Start the Sentinels that are missing: three or more, and a majority of them must live.",
    mend="redis-cli -p 26379 sentinel ckquorum {master}",
)
CLUSTER_VERSIONS = Fault(
    "cluster-versions",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=("servers of one cluster run different versions of cms",),
    cause="The servers of the cluster run different versions of cms: {versions}.",
    cure="Bring all to the same one, one after the other.",
)
ENGINE_OF_OTHERS = Fault(
    "engine-of-others",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("WRONGTYPE Operation against a key holding the wrong kind of value",),
    cause="In the engine of the cluster, {engine}, keys that begin with cms: are not ours:"
    " {problem}.",
    cure="Use another number of a database in cluster.engine, which nobody else uses." + _ALONE,
    mend='engine = "redis://<host>:6379/1"     # [cluster] in xmpp.toml',
)
CLUSTER_NAME_TAKEN = Fault(
    "cluster-name-taken",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("two servers have the same name",),
    cause="A server that lives has the name {node} in the cluster already: {other}.",
    cure="Give each server its own cluster.node, which is its hostname if it is left out." + _ALONE,
    mend='node = "xmpp2"     # [cluster] in xmpp.toml',
)
CLUSTER_OTHER_DOMAIN = Fault(
    "cluster-other-domain",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("the cluster serves another domain",),
    cause="The cluster in {engine} serves {other}, and this server {domain}.",
    cure=(
        "Correct domain, or use another number of a database. If {other} is served no more, delete"
        " its entry." + _ALONE
    ),
    mend="redis-cli del cms:service     # when nobody serves {other}",
)
CLUSTER_OTHER_PROTOCOL = Fault(
    "cluster-other-protocol",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("servers of different versions in a cluster",),
    cause=(
        "The servers of the cluster speak version {other} among themselves, and this server"
        " version {own}."
    ),
    cure="Let all run the same version of cms; stop those of the other one before." + _ALONE,
)
CLUSTER_BAD_ENTRY = Fault(
    "cluster-bad-entry",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER,
    symptoms=("an entry of the cluster is none of ours",),
    cause="In the inbox of {node} in the engine was what no server has written: {problem}.",
    cure="It was left out. Let nobody else write keys that begin with cms:.",
    mend="redis-cli acl list",
)
CLUSTER_BAD_CALLBRIDGE = Fault(
    "cluster-bad-callbridge",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER,
    symptoms=("an entry of cms:callbridges is none of ours",),
    cause="What the engine has for the Callbridge {name} is no entry of ours: {problem}.",
    cure=(
        "It was left out; what this server has counts on. Delete the entry, and the version of all,"
        " and the servers put theirs back. Let nobody else write keys that begin with cms:."
    ),
    mend="redis-cli hdel cms:callbridges {name}\nredis-cli hdel cms:service shared",
)
CLUSTER_OTHER_SECRET = Fault(
    "cluster-other-secret",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER,
    symptoms=("a Callbridge is refused since its server has joined a cluster",),
    cause=(
        "The other servers know {name} with another secret, which is newer. The one that this"
        " server had for it is not accepted any more."
    ),
    cure="If its Callbridge is refused, give it the newer one, or make one for all servers.",
    mend="cms xmpp callbridge rotate {name} --config xmpp.toml",
)
