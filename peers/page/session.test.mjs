import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import test from 'node:test';

import { CLIENT, Fault, Ledger, Session, element, parse } from '../../cms/door/static/session.js';
import { Room } from '../../cms/door/static/room.js';
import { DOMAIN, Hall, ROOM, Server, WAY } from './server.mjs';
import { World, statesOf } from './world.mjs';

const SM = 'urn:xmpp:sm:3';
const SASL = 'urn:ietf:params:xml:ns:xmpp-sasl';
const SASL2 = 'urn:xmpp:sasl:2';
const FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing';
const STREAMS = 'http://etherx.jabber.org/streams';
const ACCOUNT = { url: `wss://${DOMAIN}/xmpp-websocket`, domain: DOMAIN, jid: `alice@${DOMAIN}`, password: 'secret' };

/** A session that has begun, with all that is around it. */
async function begun({ options = {}, settings = {}, seconds = 1, seed = 1 } = {}) {
  const server = new Server(options);
  const world = new World({ server, seed });
  const session = new Session({ ...ACCOUNT, ...settings }, world);
  const states = statesOf(session);
  session.start();
  await world.pass(seconds);
  return { server, world, session, states, last: () => states.at(-1), place: () => [...server.places.values()].at(-1) };
}

const sentOn = (socket, name) => socket.sent.map((text) => parse(text)).filter((said) => said.name === name);
const to = (where, ...children) => element('message', CLIENT, { to: where }, ...children);
const lose = (server, world) => {
  const { socket } = world;
  server.cut(socket);
  socket.drop();
};
const streamError = (condition, more = '') => `<stream:error xmlns:stream='${STREAMS}'>`
  + `<${condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>${more}</stream:error>`;

// logging in

test('SASL2 with Bind 2: what is sent, and that the password is not', async () => {
  const { world, session, states } = await begun();
  assert.deepEqual(states.map(({ state, fault, resumed }) => [state, fault, resumed]), [['connecting', null, false], ['online', null, false]]);
  assert.equal(session.jid, `alice@${DOMAIN}/web.1`);
  const [open, authenticate, response, ...rest] = world.socket.sent.map((text) => parse(text));
  assert.deepEqual({ ...open.attributes }, { to: DOMAIN, from: ACCOUNT.jid, version: '1.0', 'xml:lang': 'en' });
  assert.equal(open.is('open', FRAMING), true);
  assert.equal(authenticate.get('mechanism'), 'SCRAM-SHA-256');
  assert.deepEqual(authenticate.elements.map(({ name }) => name), ['initial-response', 'user-agent', 'bind']);
  assert.equal(authenticate.child('bind', 'urn:xmpp:bind:0').child('enable', SM).get('resume'), 'true');
  assert.match(authenticate.child('user-agent').get('id'), /^[0-9a-f]{8}-[0-9a-f]{4}-4/);
  assert.equal(response.is('response', SASL2), true);
  assert.deepEqual(rest, []);
  assert.ok(!world.socket.sent.join().includes('secret'));
});

test('from pressing Join to the room: at most 8 round trips, POST /join among them', async () => {
  const server = new Server();
  const world = new World({ server });
  const hall = new Hall(server);
  let posts = 0;
  // The page has been loaded, so its connection is open: one round trip (seven with TCP and TLS in parallel).
  const credentials = () => new Promise((resolve) => {
    posts += 1;
    world.later(() => resolve({ jid: ACCOUNT.jid, password: 'secret' }), 2 * WAY);
  });
  const began = world.time;
  const session = new Session({ url: ACCOUNT.url, domain: DOMAIN, credentials }, world);
  const room = new Room(session, { jid: ROOM, nick: 'Alice' });
  let took = NaN;
  room.enter().then(() => { took = world.time - began; });
  session.start();
  await world.pass(1);
  // 3 to open the WebSocket (TCP, TLS 1.3, HTTP), while POST /join takes 1; header, SCRAM 2, presence.
  const inARow = Math.round(took / (2000 * WAY));
  assert.equal(inARow, 7);
  assert.ok(inARow + posts <= 8);
  assert.deepEqual(hall.nickOf(server.places.get(session.jid)), 'Alice');
});

test('RFC 7677 3: the example', async () => {
  const server = new Server();
  const world = new World({ server });
  const nonce = Buffer.from('rOprNGfwEbeRWgbNEkqO', 'base64');
  world.crypto = { subtle: webcrypto.subtle, getRandomValues: (array) => array.map((_, at) => { array[at] = nonce[at]; return array[at]; }), randomUUID: () => 'x' };
  let proof = '';
  let said = () => {};
  const done = new Promise((resolve) => { said = resolve; });
  server.answers = (stanza, socket) => {
    if (stanza.is('authenticate', SASL2)) {
      assert.equal(atob(stanza.child('initial-response').text), 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO');
      server.say(socket, element('challenge', SASL2, null,
        btoa('r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096')));
    } else if (stanza.is('response', SASL2)) {
      proof = atob(stanza.text);
      server.say(socket, element('success', SASL2, null, element('additional-data', SASL2, null,
        btoa('v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=')), element('authorization-identifier', SASL2, null, 'user@x/y'), element('bound', 'urn:xmpp:bind:0')));
    } else return false;
    return true;
  };
  const session = new Session({ ...ACCOUNT, jid: `user@${DOMAIN}`, password: 'pencil' }, world);
  session.addEventListener('state', ({ detail }) => detail.state === 'online' && said());
  session.start();
  const pump = setInterval(() => world.pass(0.1), 1); // its own crypto has threads
  await done;
  clearInterval(pump);
  assert.equal(proof, 'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=');
});

test('a password is prepared (RFC 4013)', async () => {
  const { last } = await begun({ options: { users: { alice: 'a b1\u00e9' } }, settings: { password: '\u00ada\u00a0b\u2460e\u0301' } });
  assert.equal(last().state, 'online');
});

test('commas and equals signs of a name are written in SCRAM as they must be', async () => {
  const { world } = await begun({ settings: { jid: `a=b,c@${DOMAIN}` } });
  const [said] = sentOn(world.socket, 'authenticate');
  assert.match(atob(said.child('initial-response').text), /^n,,n=a=3Db=2Cc,r=/);
});

const IMPOSTORS = {
  'a nonce that is not ours': 'r=xyz,s=c2FsdA==,i=4096',
  'a nonce of ours alone': 'r=NONCE,s=c2FsdA==,i=4096',
  'too few rounds': 'r=NONCEmore,s=c2FsdA==,i=1000',
  'too many rounds': 'r=NONCEmore,s=c2FsdA==,i=9999999',
  'an extension that must be known': 'm=x,r=NONCEmore,s=c2FsdA==,i=4096',
  'no challenge of SCRAM': 'hello',
};
for (const [name, challenge] of Object.entries(IMPOSTORS)) {
  test(`no proof for a server with ${name}`, async () => {
    const server = new Server();
    const world = new World({ server });
    server.answers = (said, socket) => {
      if (!said.is('authenticate', SASL2)) return false;
      const nonce = atob(said.child('initial-response').text).split('r=')[1];
      server.say(socket, element('challenge', SASL2, null, btoa(challenge.replace('NONCE', nonce))));
      return true;
    };
    const session = new Session(ACCOUNT, world);
    session.start();
    await world.pass(60);
    assert.equal(session.state, 'over');
    assert.equal(world.sockets.length, 1);
    assert.equal(sentOn(world.socket, 'response').length, 0);
  });
}

for (const data of ['v=AAAA', 'e=other-error', '', undefined]) {
  test(`a server that does not know the password is not believed: ${data}`, async () => {
    const server = new Server();
    const world = new World({ server });
    server.success = (socket, stream) => server.say(socket, element('success', SASL2, null, data !== undefined && element('additional-data', SASL2, null, btoa(data)),
      element('authorization-identifier', SASL2, null, server.bind(stream, socket).jid), element('bound', 'urn:xmpp:bind:0')));
    const session = new Session(ACCOUNT, world);
    const states = statesOf(session);
    session.start();
    await world.pass(60);
    assert.deepEqual(states.map(({ state, fault }) => [state, fault?.word]), [['connecting', undefined], ['over', 'server-not-proven']]);
  });
}

test('a success without a challenge is none', async () => {
  const server = new Server();
  const world = new World({ server });
  server.answers = (said, socket) => said.is('authenticate', SASL2) && (server.say(socket, element('success', SASL2)), true);
  const session = new Session(ACCOUNT, world);
  session.start();
  await world.pass(1);
  assert.equal(session.state, 'over');
});

test('without SCRAM-SHA-256 and PLAIN there is no log-in', async () => {
  const { world, last } = await begun({ options: { offered: ['SCRAM-SHA-1', 'EXTERNAL'] }, seconds: 60 });
  assert.equal(last().fault.word, 'no-mechanism');
  assert.equal(world.socket.sent.length, 1);
});

for (const inline of [true, false]) {
  test(`PLAIN alone: in, back, and a wrong password (${inline ? 'SASL2' : 'RFC 6120'})`, async () => {
    const settings = { jid: `j\u00f6rg@${DOMAIN}`, password: 'p\u00e4ss word' };
    const options = { inline, offered: ['PLAIN'], users: { 'j\u00f6rg': settings.password } };
    const { server, world, session, states, last } = await begun({ options, settings });
    const [said] = sentOn(world.socket, inline ? 'authenticate' : 'auth');
    assert.equal(said.get('mechanism'), 'PLAIN');
    assert.equal(session.state, 'online');
    lose(server, world);
    await world.pass(20);
    assert.deepEqual(states.filter(({ state }) => state === 'online').map(({ resumed }) => resumed), [false, true]);
    server.users = {};
    lose(server, world);
    await world.pass(20);
    assert.equal(last().fault.word, 'not-authorized');
  });
}

test('the password never follows SCRAM, whatever is offered later', async () => {
  const { server, world, last } = await begun({ options: { offered: ['PLAIN', 'SCRAM-SHA-256'] } });
  assert.equal(last().state, 'online');
  assert.equal(sentOn(world.socket, 'authenticate')[0].get('mechanism'), 'SCRAM-SHA-256');
  server.offered = ['PLAIN'];
  lose(server, world);
  await world.pass(20);
  assert.deepEqual([last().state, last().fault.word], ['over', 'reset']);
  assert.equal(sentOn(world.socket, 'authenticate').length, 0);
});

test('a page that came by http from another host sends nothing', () => {
  const world = new World({ server: new Server() });
  world.crypto = { getRandomValues: (array) => array }; // what a browser leaves of it then
  assert.throws(() => new Session(ACCOUNT, world), { word: 'encryption-required' });
});

for (const inline of [true, false]) {
  test(`keys are derived once for all log-ins (${inline ? 'SASL2' : 'RFC 6120'})`, async () => {
    const { server, world, states } = await begun({ options: { inline } });
    for (let times = 0; times < 3; times += 1) {
      lose(server, world);
      await world.pass(20);
    }
    assert.equal(world.crypto.derived, 1);
    assert.deepEqual(states.filter(({ state }) => state === 'online').map(({ resumed }) => resumed), [false, true, true, true]);
    assert.equal(server.places.size, 1);
  });
}

test('other salt or rounds: the keys are derived anew', async () => {
  const { server, world, last } = await begun();
  server.iterations = 5000;
  lose(server, world);
  await world.pass(1);
  assert.equal(last().resumed, true);
  assert.equal(world.crypto.derived, 2);
});

test('the old way: SASL, a new stream, bind, enable, and resume', async () => {
  const { server, world, session } = await begun({ options: { inline: false } });
  assert.deepEqual(world.socket.sent.map((text) => parse(text).name), ['open', 'auth', 'response', 'open', 'iq', 'enable']);
  assert.equal(session.jid, `alice@${DOMAIN}/web.1`);
  lose(server, world);
  await world.pass(1);
  assert.deepEqual(sentOn(world.socket, 'resume').map((said) => said.get('previd')), [`id-of-${session.jid}`]);
  assert.equal(session.state, 'online');
});

test('the old way, without stream management: a ping asks whether the connection lives', async () => {
  const { world, session } = await begun({ options: { inline: false, manages: false } });
  await world.pass(31);
  assert.equal(sentOn(world.socket, 'iq').at(-1).child('ping', 'urn:xmpp:ping')?.name, 'ping');
  assert.equal(session.state, 'online');
});

test('nothing is bound with the log-in: the client asks, and hears why not', async () => {
  const server = new Server();
  const world = new World({ server });
  server.success = (socket, stream, data) => {
    server.say(socket, element('success', SASL2, null, element('additional-data', SASL2, null, data), element('authorization-identifier', SASL2, null, ACCOUNT.jid)));
    server.say(socket, element('features', STREAMS, null, element('bind', 'urn:ietf:params:xml:ns:xmpp-bind')));
  };
  server.answers = (said, socket) => said.is('iq', CLIENT) && (server.say(socket, element('iq', CLIENT, { type: 'error', id: said.get('id') },
    element('error', CLIENT, { type: 'wait' }, element('resource-constraint', 'urn:ietf:params:xml:ns:xmpp-stanzas')))), true);
  const session = new Session(ACCOUNT, world);
  const states = statesOf(session);
  session.start();
  await world.pass(0.3);
  assert.deepEqual([states[1].state, states[1].fault.word], ['waiting', 'resource-constraint']);
});

test('the browser keeps nothing: the log-in goes on without the name of the installation', async () => {
  const server = new Server();
  const world = new World({ server });
  Object.defineProperty(world, 'storage', { get() { throw new Error('SecurityError'); } });
  const session = new Session(ACCOUNT, world);
  session.start();
  await world.pass(1);
  assert.equal(session.state, 'online');
  assert.equal(sentOn(world.socket, 'authenticate')[0].child('user-agent').attributes.id, undefined);
});

// what a server says against it

test('the fault of a stream error: its word, step and seconds, and the time of the next try', async () => {
  const { server, world, states } = await begun({ seconds: 0 });
  server.answers = (said, socket) => said.is('open', FRAMING) && (server.say(socket,
    streamError('remote-connection-failed', "<no-callbridge xmlns='urn:x-cms:fault:1' step='1' seconds='12'/>")), true);
  await world.pass(0.5);
  const [, { state, fault, nextTry }] = states;
  assert.deepEqual([state, fault.word, fault.step, fault.seconds], ['waiting', 'no-callbridge', 1, 12]);
  assert.ok(nextTry - world.time > 11_000 && nextTry - world.time < 15_000);
  await world.pass(11);
  assert.equal(world.sockets.length, 1);
  server.answers = () => false;
  await world.pass(6);
  assert.equal(states.at(-1).state, 'online');
});

for (const [condition, isOver] of Object.entries({
  conflict: true, 'policy-violation': true, 'host-unknown': true, 'not-authorized': true, 'invalid-xml': true,
  'system-shutdown': false, 'remote-connection-failed': false, 'connection-timeout': false, reset: false, 'internal-server-error': false, 'resource-constraint': false,
})) {
  test(`the stream error ${condition} ${isOver ? 'ends it' : 'passes'}`, async () => {
    const { server, world, last, states } = await begun();
    server.say(world.socket, streamError(condition));
    await world.pass(600);
    assert.equal(last().state, isOver ? 'over' : 'online');
    assert.equal(states[2].fault.word, condition);
    if (isOver) assert.equal(world.sockets.length, 1);
  });
}

test('two tabs of one installation: the first ends, and does not come back', async () => {
  const server = new Server();
  const world = new World({ server });
  const [first, second] = [new Session(ACCOUNT, world), new Session(ACCOUNT, world)];
  const states = statesOf(first);
  first.start();
  await world.pass(1);
  second.start();
  await world.pass(600);
  assert.deepEqual([first.state, states.at(-1).fault.word, second.state], ['over', 'conflict', 'online']);
  assert.equal(world.sockets.length, 2);
});

const failure = (condition, marks = '') => `<failure xmlns='${SASL2}'${marks}><${condition} xmlns='${SASL}'/></failure>`;
const SLOWED = " xmlns:f='urn:x-cms:fault:1' f:name='login-slowed' f:step='12' f:seconds='300'";

test('a wrong password ends it at once', async () => {
  const { world, last } = await begun({ settings: { password: 'wrong' }, seconds: 600 });
  assert.deepEqual([last().state, last().fault.word, last().nextTry], ['over', 'not-authorized', null]);
  assert.equal(world.sockets.length, 1);
});

test('a log-in that is slowed down: told before the first, waited for after it', async () => {
  const first = await begun({ seconds: 0 });
  first.server.answers = (said, socket) => said.name === 'authenticate' && (first.server.say(socket, failure('temporary-auth-failure', SLOWED)), true);
  await first.world.pass(10);
  const { state, fault } = first.last();
  assert.deepEqual([state, fault.word, fault.step, fault.seconds], ['over', 'login-slowed', 12, 300]);

  const later = await begun();
  lose(later.server, later.world);
  later.server.answers = (said, socket) => said.name === 'authenticate' && (later.server.say(socket, failure('temporary-auth-failure', SLOWED)), true);
  await later.world.pass(299);
  assert.deepEqual([later.last().state, later.last().fault.word, later.world.sockets.length], ['waiting', 'login-slowed', 2]);
});

test('a log-in that cannot be decided now is tried again', async () => {
  const { server, world, session } = await begun({ seconds: 0 });
  let times = 0;
  server.answers = (said, socket) => said.name === 'authenticate' && times++ < 2 && (server.say(socket, failure('temporary-auth-failure')), true);
  await world.pass(10);
  assert.equal(session.state, 'online');
});

test('credentials are for one log-in: new ones are asked for with each, and the session goes on', async () => {
  const server = new Server();
  const world = new World({ server });
  let asked = 0;
  const credentials = async () => {
    asked += 1;
    server.users = { guest: `pass ${asked}` };
    return { jid: `guest@${DOMAIN}`, password: `pass ${asked}` };
  };
  const session = new Session({ url: ACCOUNT.url, domain: DOMAIN, credentials }, world);
  const states = statesOf(session);
  session.start();
  await world.pass(1);
  assert.deepEqual([session.state, asked], ['online', 1]);
  server.users = {};
  lose(server, world);
  await world.pass(1);
  assert.deepEqual([states.at(-1).state, states.at(-1).resumed, asked, world.sockets.length], ['online', true, 2, 2]);
  // tries that come to no log-in use none
  server.isUp = false;
  lose(server, world);
  await world.pass(12);
  assert.equal(asked, 3);
  server.isUp = true;
  await world.pass(6);
  assert.deepEqual([states.at(-1).resumed, asked], [true, 3]);
  // but they grow old
  server.isUp = false;
  lose(server, world);
  await world.pass(50);
  server.isUp = true;
  await world.pass(6);
  assert.deepEqual([states.at(-1).resumed, asked], [true, 5]);
});

test('credentials that are refused are not asked for without end', async () => {
  const server = new Server({ users: {} });
  const world = new World({ server });
  let asked = 0;
  const credentials = async () => ({ jid: `guest@${DOMAIN}`, password: `${asked += 1}` });
  const session = new Session({ url: ACCOUNT.url, domain: DOMAIN, credentials }, world);
  session.start();
  await world.pass(600);
  assert.deepEqual([session.state, asked, world.sockets.length], ['over', 2, 2]);
});

test('what credentials throw: over is over, seconds are waited for, anything else is tried again', async () => {
  for (const [thrown, state, asked] of [
    [new Fault('reentry-over', { over: true }), 'over', 1],
    [new Fault('link-before-login', { seconds: 20, step: 1 }), 'waiting', 1],
    [new TypeError('Failed to fetch'), 'waiting', 7],
  ]) {
    const world = new World({ server: new Server() });
    let times = 0;
    const credentials = async () => { times += 1; throw thrown; };
    const session = new Session({ url: ACCOUNT.url, domain: DOMAIN, credentials }, world);
    world.random = () => 0.5;
    session.start();
    await world.pass(15);
    assert.deepEqual([session.state, times], [state, asked], String(thrown));
  }
});

// coming back

test('the times of the tries: 0, 0.5, 1, 2, 4, 5 seconds for five minutes, then every half minute', async () => {
  const { server, world } = await begun();
  await world.pass(20);
  world.random = () => 0.5;
  server.isUp = false;
  const times = [];
  const { connect } = world;
  world.connect = (url) => { times.push(world.time); return connect(url); };
  const began = world.time;
  lose(server, world);
  await world.pass(400);
  const gaps = times.map((time, at) => Math.round((time - (times[at - 1] ?? began)) / 100) / 10);
  const fast = gaps.slice(0, gaps.indexOf(30));
  assert.deepEqual(fast.slice(0, 7), [0, 0.5, 1, 2, 4, 5, 5]);
  assert.deepEqual(new Set(fast.slice(5)), new Set([5]));
  assert.ok(times[fast.length - 1] - began >= 299_000);
  assert.deepEqual(new Set(gaps.slice(fast.length)), new Set([30]));
});

test('the delays have jitter', async () => {
  const waits = new Set();
  for (let seed = 1; seed <= 5; seed += 1) {
    const { server, world, states } = await begun({ seed });
    server.isUp = false;
    lose(server, world);
    await world.pass(3);
    const waiting = states.filter(({ state }) => state === 'waiting');
    waits.add(waiting.at(-1).nextTry - world.time);
  }
  assert.equal(waits.size, 5);
});

test('sessions of a server that stops do not come back all at once', async () => {
  const { server, world } = await begun();
  server.say(world.socket, streamError('system-shutdown'));
  await world.pass(0.3);
  assert.equal(world.sockets.length, 1);
});

for (const [what, type, target] of [['online', 'online', 'page'], ['another network', 'change', 'network'], ['a look at the page', 'visibilitychange', 'sight']]) {
  test(`it is tried at once on ${what}`, async () => {
    const { server, world, session } = await begun();
    server.isUp = false;
    lose(server, world);
    await world.pass(20);
    server.isUp = true;
    const before = world.sockets.length;
    world.fire(type, world[target]);
    await world.pass(0.5);
    assert.equal(session.state, 'online');
    assert.equal(world.sockets.length, before + 1);
  });
}

test('it is tried at once when somebody wants it so', async () => {
  const { server, world, session } = await begun();
  server.isUp = false;
  lose(server, world);
  await world.pass(20);
  server.isUp = true;
  session.retry();
  await world.pass(0.3);
  assert.equal(session.state, 'online');
});

test('a page that is not looked at tries by its schedule alone', async () => {
  const { server, world } = await begun();
  server.isUp = false;
  lose(server, world);
  await world.pass(20);
  const before = world.sockets.length;
  world.hidden = true;
  world.fire('visibilitychange', world.sight);
  await world.pass(0.1);
  assert.equal(world.sockets.length, before);
});

test('a connection that leads nowhere is given up when the network is back', async () => {
  const { server, world, session } = await begun();
  server.connected = () => {}; // packets are lost
  lose(server, world);
  await world.pass(5);
  delete server.connected;
  world.fire('online');
  await world.pass(0.5);
  assert.equal(session.state, 'online');
});

test('a connection that is not made is given up after 10 s, a log-in without answer after 30 s', async () => {
  for (const [seconds, silence] of [[10, { connected() {} }], [30, { answers: () => true }]]) {
    const server = Object.assign(new Server(), silence);
    const world = new World({ server });
    const session = new Session(ACCOUNT, world);
    const states = statesOf(session);
    session.start();
    await world.pass(seconds - 0.1);
    assert.equal(session.state, 'connecting');
    await world.pass(0.2);
    assert.deepEqual([states[1].state, states[1].fault.word], ['waiting', 'timeout']);
  }
});

test('half dead: what is sent and not acknowledged within 5 s is sent again elsewhere', async () => {
  const { server, world, session, place } = await begun();
  const before = place();
  world.socket.isDeaf = true;
  session.send(to('bob@example.com', 'hello'));
  await world.pass(4.9);
  assert.equal(session.state, 'online');
  await world.pass(0.5);
  assert.equal(session.state, 'online');
  assert.equal(world.sockets.length, 2);
  assert.equal(place(), before);
  assert.equal(before.handled, 1);
});

test('half dead and idle: found within 35 s', async () => {
  const { world, states } = await begun();
  world.socket.isDeaf = true;
  await world.pass(35.5);
  assert.deepEqual(states.map(({ state, resumed }) => [state, resumed]).slice(2), [['waiting', false], ['connecting', false], ['online', true]]);
});

test('half dead: found within 0.5 s when the network is back, within 2 s when the page is looked at', async () => {
  for (const [type, target, seconds] of [['online', 'page', 0.5], ['visibilitychange', 'sight', 2]]) {
    const { world, states } = await begun();
    world.socket.isDeaf = true;
    world.fire(type, world[target]);
    await world.pass(seconds + 0.4);
    assert.equal(states.at(-1).resumed, true, type);
  }
});

test('a connection that lives is left alone by all of that', async () => {
  const { world, session } = await begun();
  for (const [type, target] of [['online', 'page'], ['offline', 'page'], ['change', 'network'], ['visibilitychange', 'sight']]) world.fire(type, world[target]);
  await world.pass(3600);
  assert.equal(world.sockets.length, 1);
  assert.equal(session.state, 'online');
});

// XEP-0198

test('what the server asks is answered with what was handled', async () => {
  const { server, world, place } = await begun();
  for (let times = 0; times < 3; times += 1) server.deliver(place(), to('alice'));
  server.say(world.socket, element('r', SM));
  await world.pass(1);
  assert.deepEqual(sentOn(world.socket, 'a').map((said) => said.get('h')), ['3']);
});

test('counters wrap at 2^32', () => {
  const ledger = new Ledger(2 ** 32 - 2);
  for (const xml of 'abcd') ledger.add(xml, '');
  for (const item of ledger.out.slice(0, 3)) item.tried = true;
  for (let times = 0; times < 3; times += 1) ledger.handle();
  assert.equal(ledger.handled, 1);
  for (const h of ['2', `${2 ** 32 - 3}`, `${2 ** 32 - 1}0`, '', '-1', 'x', '1.5', '1e0']) assert.equal(ledger.acknowledge(h), false, h);
  assert.equal(ledger.acknowledge(`${2 ** 32 - 2}`), true); // none
  assert.equal(ledger.acknowledge('0'), true);
  assert.deepEqual(ledger.out.map(({ xml }) => xml), ['c', 'd']);
  assert.equal(ledger.acknowledge('1'), true);
  assert.equal(ledger.acknowledge('2'), false); // it was never sent
  assert.deepEqual([ledger.out.length, ledger.size], [1, 1]);
});

test('a count that cannot be: a new session', async () => {
  const { server, world, states } = await begun();
  server.say(world.socket, element('a', SM, { h: 7 }));
  await world.pass(1);
  assert.deepEqual(states.map(({ state, resumed }) => [state, resumed]).slice(2), [['waiting', false], ['connecting', false], ['online', false]]);
});

test('what waits is sent with the resumption, in its order, and nothing twice', async () => {
  const { server, world, session, place } = await begun();
  const heard = [];
  server.stanza = (_, said) => heard.push(said.text);
  server.isUp = false;
  const number = (from, until) => { for (let at = from; at < until; at += 1) session.send(to('x', `${at}`)); };
  number(0, 10);
  await world.pass(0.012); // they have arrived, but nothing was acknowledged
  const { handled } = place();
  lose(server, world);
  number(10, 20);
  await world.pass(3);
  number(20, 30);
  server.isUp = true;
  await world.pass(10);
  assert.equal(handled, 10);
  assert.deepEqual(heard, Array.from({ length: 30 }, (_, at) => `${at}`));
});

test('what waits is bounded', async () => {
  const { server, world, session } = await begun();
  server.isUp = false;
  lose(server, world);
  await world.pass(1);
  let sent = 0;
  assert.throws(() => { for (; sent < 10_000; sent += 1) session.send(to('x', 'y'.repeat(1000))); }, { word: 'too-much-waits' });
  assert.ok(sent > 200 && sent < 300, sent);
});

test('a session that cannot be resumed: what it sent is lost, but for requests that had not left', async () => {
  const { server, world, session, states } = await begun();
  const heard = [];
  server.stanza = (place, said) => {
    heard.push(said.get('to'));
    server.deliver(place, element('iq', CLIENT, { type: 'result', id: said.get('id'), from: said.get('to') }));
  };
  const ask = (where) => session.iq(element('iq', CLIENT, { type: 'get', to: where })).then(() => 'answered', ({ word }) => word);
  const lost = ask('a');
  session.send(to('b'));
  lose(server, world);
  const kept = ask('c');
  session.send(to('d'));
  server.places.clear();
  await world.pass(10);
  assert.deepEqual([await lost, await kept], ['session-lost', 'answered']);
  assert.deepEqual(heard, ['c']);
  assert.equal(states.at(-1).resumed, false);
});

test('a stanza that nobody can read is handled, and does not come again', async () => {
  const { server, world, session, place } = await begun();
  const heard = [];
  session.addEventListener('stanza', ({ detail }) => heard.push(detail.text));
  for (const xml of ['<message><!-- a --></message>', "<message xmlns='jabber:client'>hello</message>", '<presence a=b/>', '<nonsense', '<iq>']) server.deliver(place(), xml);
  server.say(world.socket, element('r', SM));
  await world.pass(10);
  assert.deepEqual(heard, ['hello']);
});

// stanzas

test('a ping is answered, other requests are refused, unless somebody answers', async () => {
  const { server, world, session, place } = await begun();
  session.addEventListener('stanza', (event) => event.detail.child('mine', 'urn:mine') && event.preventDefault());
  for (const [name, namespace, id] of [['ping', 'urn:xmpp:ping', 'a'], ['query', 'urn:x', 'b'], ['mine', 'urn:mine', 'c']]) {
    server.deliver(place(), element('iq', CLIENT, { type: 'get', id, from: 'bob@example.com/x' }, element(name, namespace)));
  }
  await world.pass(1);
  const answers = sentOn(world.socket, 'iq').map((said) => [said.get('id'), said.get('type'), said.get('to')]);
  assert.deepEqual(answers, [['a', 'result', 'bob@example.com/x'], ['b', 'error', 'bob@example.com/x']]);
});

test('an answer counts if it comes from whom was asked', async () => {
  const { server, world, session, place } = await begun();
  server.stanza = () => {};
  const answer = (id, from) => server.deliver(place(), element('iq', CLIENT, { type: 'result', id, from }));
  const ask = (where) => {
    const stanza = element('iq', CLIENT, { type: 'get', to: where }, element('query', 'urn:x'));
    return [session.iq(stanza).then((said) => said.get('from'), ({ word }) => word), stanza.get('id')];
  };
  const [one, id] = ask('bob@example.com/x');
  answer(id, 'eve@example.com/x');
  answer(id, null);
  answer(id, 'bob@example.com/x');
  const [own, ownId] = ask(null);
  answer(ownId, 'eve@example.com');
  answer(ownId, DOMAIN);
  const [none] = ask('bob@example.com/x');
  await world.pass(31);
  assert.deepEqual(await Promise.all([one, own, none]), ['bob@example.com/x', DOMAIN, 'timeout']);
});

test('requests are bounded', async () => {
  const { server, session } = await begun();
  server.stanza = () => {};
  const asked = Array.from({ length: 101 }, () => session.iq(element('iq', CLIENT, { type: 'get' })).catch(({ word }) => word));
  session.close();
  assert.deepEqual([await asked[0], await asked[100]], ['cancelled', 'too-much-waits']);
});

// the page

test('a page that goes ends its session, and comes back from the cache with a new one', async () => {
  const { server, world, session, states } = await begun();
  world.fire('pagehide');
  assert.equal(parse(world.socket.sent.at(-1)).is('close', FRAMING), true);
  await world.pass(600);
  assert.equal(server.places.size, 0);
  assert.equal(world.sockets.length, 1);
  world.fire('pageshow', world.page, { persisted: true });
  await world.pass(1);
  assert.equal(session.state, 'online');
  assert.equal(states.at(-1).resumed, false);
  assert.equal(sentOn(world.socket, 'authenticate')[0].child('resume', SM), undefined);
});

test('closed is closed', async () => {
  const { server, world, session, states } = await begun();
  session.close();
  session.close();
  for (const type of ['online', 'pageshow']) world.fire(type, world.page, { persisted: true });
  session.retry();
  session.start();
  await world.pass(600);
  assert.deepEqual([states.at(-1).state, states.at(-1).fault, states.length], ['over', null, 3]);
  assert.deepEqual([world.sockets.length, server.places.size, world.timers.length], [1, 0, 0]);
  assert.throws(() => session.send(to('x')), { word: 'session-lost' });
});

test('a frame that is no XML before the log-in is tried again elsewhere', async () => {
  const { server, world, states } = await begun({ seconds: 0 });
  server.open = (socket) => server.say(socket, 'hello');
  await world.pass(0.3);
  assert.deepEqual([states[1].state, states[1].fault.word], ['waiting', 'not-well-formed']);
});
