"""
What Redis does for the nodes in one step each, in Lua, and the keys that it does it with.

Every script is handed all keys with a fixed name; the inboxes' names are made in it.
"""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = "1"  # of the keys and of what nodes say to each other
SERVICE, NODES, LEASES, SHARED = "cms:service", "cms:nodes", "cms:leases", "cms:callbridges"
KEYS: Final = (SERVICE, NODES, LEASES, SHARED)


def inbox(name: str, generation: int) -> str:
    """The key of a node's inbox, a stream."""
    return f"cms:in:{name}:{generation}"


# cms:service      hash: domain, protocol, epoch, last (the last generation), shared (the version
#                  of the next but two)
# cms:nodes        hash: name -> generation, incarnation, facts, as "GENERATION INCARNATION JSON"
# cms:leases       hash: name -> until when, in milliseconds of Redis' clock
# cms:callbridges  hash: name -> a shared record, as "STAMP JSON"
_COMMON: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local service, nodes, leases = KEYS[1], KEYS[2], KEYS[3]

local function generation_of(name)
    local value = redis.call('HGET', nodes, name)
    return value and (string.match(value, '^%d+') or '0')
end

local function inbox(name, generation)
    return 'cms:in:' .. name .. ':' .. generation
end

local function tell_others(but)
    local all = redis.call('HGETALL', nodes)
    for at = 1, #all, 2 do
        if all[at] ~= but then
            local key = inbox(all[at], string.match(all[at + 1], '^%d+') or '0')
            redis.call('XADD', key, 'NOMKSTREAM', '*', 'd', '')
        end
    end
end

local function remove(name)
    local generation = generation_of(name)
    if generation then
        redis.call('DEL', inbox(name, generation))
    end
    redis.call('HDEL', nodes, name)
    redis.call('HDEL', leases, name)
end

-- No lease is longer than a minute (cluster.lease): one that seems so is of before the clock was
-- set back.
local function is_valid(untill)
    return untill > now and untill <= now + 60000
end

local function live_but(but)
    local all = redis.call('HGETALL', leases)
    for at = 1, #all, 2 do
        if all[at] ~= but and is_valid(tonumber(all[at + 1]) or 0) then
            return true
        end
    end
    return false
end

local function table_of_members()
    local epoch = redis.call('HGET', service, 'epoch') or ''
    local shared = redis.call('HGET', service, 'shared') or ''
    return {'ok', tostring(now), epoch, redis.call('HGETALL', nodes), shared}
end
"""

# ARGV: domain, protocol, epoch if there is none, name, incarnation, facts, lease
JOIN: Final = (
    _COMMON
    + """
local domain = redis.call('HGET', service, 'domain')
if domain and domain ~= ARGV[1] then
    return {'domain', domain}
end
local protocol = redis.call('HGET', service, 'protocol')
if protocol and protocol ~= ARGV[2] and live_but(ARGV[4]) then
    return {'protocol', protocol}
end
local name, incarnation = ARGV[4], ARGV[5]
local there = redis.call('HGET', nodes, name)
local untill = tonumber(redis.call('HGET', leases, name) or '0') or 0
if there and is_valid(untill) and string.match(there, '^%d+ (%S+)') ~= incarnation then
    return {'name', there, tostring(untill)}
end
remove(name)
redis.call('HSET', service, 'domain', ARGV[1], 'protocol', ARGV[2])
redis.call('HSETNX', service, 'epoch', ARGV[3])
local last = tonumber(redis.call('HGET', service, 'last') or '0') or 0
local generation = string.format('%.0f', math.max(last + 1, now))
redis.call('HSET', service, 'last', generation)
redis.call('HSET', nodes, name, generation .. ' ' .. incarnation .. ' ' .. ARGV[6])
redis.call('HSET', leases, name, string.format('%.0f', now + ARGV[7]))
redis.call('XADD', inbox(name, generation), '*', 'd', '')
tell_others(name)
return table_of_members()
"""
)

# ARGV: name, generation, lease, what the clock says if it was not set (empty: nobody is judged)
RENEW: Final = (
    _COMMON
    + """
if generation_of(ARGV[1]) ~= ARGV[2] or redis.call('EXISTS', inbox(ARGV[1], ARGV[2])) == 0 then
    return {'gone'}
end
redis.call('HSET', leases, ARGV[1], string.format('%.0f', now + ARGV[3]))
local expected = tonumber(ARGV[4])
if expected and math.abs(now - expected) <= ARGV[3] / 2 then
    local all = redis.call('HGETALL', leases)
    local removed = false
    for at = 1, #all, 2 do
        local untill = tonumber(all[at + 1]) or 0
        if untill <= now then
            remove(all[at])
            removed = true
        elseif not is_valid(untill) then
            redis.call('HSET', leases, all[at], string.format('%.0f', now + ARGV[3]))
        end
    end
    if removed then
        tell_others(ARGV[1])
    end
end
return table_of_members()
"""
)

# ARGV: name, generation
LEAVE: Final = (
    _COMMON
    + """
if generation_of(ARGV[1]) == ARGV[2] then
    remove(ARGV[1])
    tell_others(ARGV[1])
end
return {'ok'}
"""
)

# ARGV: name and record, of each.  What is none of ours has no stamp, and is replaced.  The
# version is never one that there was before, even if a failover has lost the last.
SHARE: Final = (
    _COMMON
    + """
local changed = false
for at = 1, #ARGV, 2 do
    local there = redis.call('HGET', KEYS[4], ARGV[at])
    local before = there and tonumber(string.match(there, '^(%d+) ')) or -1
    if tonumber(string.match(ARGV[at + 1], '^(%d+) ')) > before then
        redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1])
        changed = true
    end
end
if changed then
    local last = tonumber(redis.call('HGET', service, 'shared') or '0') or 0
    redis.call('HSET', service, 'shared', string.format('%.0f', math.max(last + 1, now)))
    tell_others('')
end
return {'ok'}
"""
)
