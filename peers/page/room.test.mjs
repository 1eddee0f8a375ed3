import assert from 'node:assert/strict';
import test from 'node:test';

import { CLIENT, Session, element, parse } from '../../cms/door/static/session.js';
import { Room, find, spaces } from '../../cms/door/static/room.js';
import { DOMAIN, Hall, ROOM, Server } from './server.mjs';
import { World, statesOf } from './world.mjs';

const MEETING = 'urn:x-cms:meeting:1';
const USERS = { alice: 'a', bob: 'b' };

/** What a room tells, as [event, what of it is looked at]. */
function eventsOf(room) {
  const events = [];
  for (const type of ['occupants', 'message', 'subject', 'away', 'back', 'left']) {
    room.addEventListener(type, ({ detail }) => events.push([type, detail]));
  }
  return events;
}

const named = (list) => list.map(({ nick }) => nick);

/** A page of a user's; all share the server and so the clock. */
async function page(server, world, user, { nick = user, room: jid = ROOM } = {}) {
  const session = new Session({ url: 'wss://x', domain: DOMAIN, jid: `${user}@${DOMAIN}`, password: USERS[user] },
    Object.assign(Object.create(world), { kept: new Map(), storage: { getItem: () => null, setItem() {} } }));
  const states = statesOf(session);
  const room = new Room(session, { jid, nick, password: '1234' });
  const events = eventsOf(room);
  session.start();
  const entered = room.enter().then(() => '', ({ word }) => word);
  await world.pass(1);
  const place = [...server.places.values()].find((one) => one.jid === session.jid);
  return { session, states, room, events, entered, place, socket: place?.socket };
}

async function twoInRoom() {
  const server = new Server({ users: USERS });
  const world = new World({ server });
  const hall = new Hall(server);
  const bob = await page(server, world, 'bob');
  const alice = await page(server, world, 'alice');
  return { server, world, hall, alice, bob };
}

function cut(server, { socket }) {
  server.cut(socket);
  socket.drop();
}

test('who comes in sees all in one event, the others one by one', async () => {
  const { world, alice, bob } = await twoInRoom();
  assert.equal(await alice.entered, '');
  assert.deepEqual([...alice.room.occupants.values()], [
    { id: 'o-bob', nick: 'bob', role: 'participant', affiliation: 'none', isSelf: false, reconnecting: false, hand: false, muted: false, camera: false, screen: false },
    { id: 'o-alice', nick: 'alice', role: 'participant', affiliation: 'none', isSelf: true, reconnecting: false, hand: false, muted: false, camera: false, screen: false },
  ]);
  assert.deepEqual(alice.events.map(([type]) => type), ['occupants', 'subject']);
  assert.deepEqual(named(alice.events[0][1].joined), ['bob', 'alice']);
  assert.deepEqual(bob.events.slice(2).map(([type, { joined }]) => [type, named(joined)]), [['occupants', ['alice']]]);
  assert.equal(alice.room.subject, 'the subject');
  alice.room.leave();
  await world.pass(1);
  assert.deepEqual(named(bob.events.at(-1)[1].left), ['alice']);
  assert.deepEqual([bob.room.occupants.size, alice.room.state], [1, 'out']);
});

test('the join: history, passcode, and what others see', async () => {
  const { alice } = await twoInRoom();
  const join = alice.socket.sent.map((text) => parse(text)).find(({ name }) => name === 'presence');
  assert.equal(String(join), `<presence xmlns='jabber:client' to='${ROOM}/alice'><x xmlns='http://jabber.org/protocol/muc'>`
    + `<history maxstanzas='50'/><password>1234</password></x><state xmlns='${MEETING}'/></presence>`);
});

test('a raised hand is seen by the others, and is still up after coming back', async () => {
  const { server, world, alice, bob } = await twoInRoom();
  alice.room.setState({ hand: true });
  await world.pass(1);
  assert.equal(bob.room.occupants.get('o-alice').hand, true);
  assert.deepEqual(named(bob.events.at(-1)[1].changed), ['alice']);
  server.leave(alice.place);
  cut(server, alice);
  await world.pass(2);
  assert.equal(bob.room.occupants.get('o-alice').hand, true);
  assert.equal(bob.room.occupants.get('o-alice').muted, false);
});

test('what is said: by whom, when, and that it was heard', async () => {
  const { world, alice, bob } = await twoInRoom();
  const heard = alice.room.say('<img src=x onerror=alert(1)> & more');
  await world.pass(1);
  await heard;
  const [told] = alice.room.messages;
  assert.deepEqual([told.text, told.nick, told.occupant, told.mine, told.delayed], ['<img src=x onerror=alert(1)> & more', 'alice', 'o-alice', true, false]);
  assert.deepEqual([bob.room.messages[0].mine, bob.room.messages[0].id], [false, told.id]);
  assert.equal(bob.events.at(-1)[1], bob.room.messages[0]);
});

test('history is told with its time, and not twice after coming back', async () => {
  const { server, world, hall, alice, bob } = await twoInRoom();
  for (const text of ['one', 'two']) bob.room.say(text);
  await world.pass(1);
  server.leave(alice.place);
  cut(server, alice);
  bob.room.say('three');
  await world.pass(2);
  assert.deepEqual(alice.room.messages.map(({ text, delayed }) => [text, delayed]), [['one', false], ['two', false], ['three', true]]);
  assert.equal(alice.room.messages[2].at.toISOString(), '2026-11-28T22:00:00.000Z');
  assert.equal(hall.said.length, 3);
});

test('a session that is lost: back in the room by itself, as the same occupant, and nothing flickers', async () => {
  const { server, world, alice, bob } = await twoInRoom();
  server.leave(alice.place);
  cut(server, alice);
  alice.events.length = 0;
  await world.pass(2);
  assert.deepEqual(alice.events.map(([type]) => type), ['occupants', 'back', 'subject']);
  const [[, { joined, left, changed }]] = alice.events;
  assert.deepEqual([joined, left, named(changed)], [[], [], ['bob', 'alice']]);
  assert.deepEqual(named([...bob.room.occupants.values()]), ['bob', 'alice']);
  assert.equal(bob.room.occupants.get('o-alice').nick, 'alice');
});

test('who went meanwhile is told to have left', async () => {
  const { server, world, alice, bob } = await twoInRoom();
  alice.events.length = 0;
  server.leave(alice.place);
  server.isUp = false;
  cut(server, alice);
  bob.room.leave();
  await world.pass(1);
  server.isUp = true;
  await world.pass(6);
  assert.deepEqual(named(alice.events[0][1].left), ['bob']);
  assert.deepEqual([...alice.room.occupants.keys()], ['o-alice']);
});

test('what was said while away is said once, whether or not the room had heard it', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  const promises = [alice.room.say('before')];
  await world.pass(0.012); // the server has it; its reflection is on the way
  server.leave(alice.place);
  server.isUp = false;
  cut(server, alice);
  promises.push(alice.room.say('while away'));
  await world.pass(1);
  promises.push(alice.room.say('and more'));
  server.isUp = true;
  await world.pass(10);
  await Promise.all(promises);
  assert.deepEqual(hall.said, ['before', 'while away', 'and more']);
  assert.deepEqual(alice.room.messages.map(({ text }) => text), ['before', 'while away', 'and more']);
});

test('what is said while the room is entered again comes after what was said before', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  server.leave(alice.place);
  cut(server, alice);
  alice.room.say('first');
  alice.room.addEventListener('back', () => alice.room.say('second'));
  alice.room.addEventListener('subject', () => alice.room.say('third'));
  await world.pass(3);
  assert.deepEqual(hall.said, ['first', 'second', 'third']);
});

test('a changed subject says nothing again', async () => {
  const { server, world, hall, alice, bob } = await twoInRoom();
  server.answers = (said) => said.is('message', CLIENT); // the room is slow
  alice.room.say('one');
  await world.pass(0.1);
  server.answers = () => false;
  server.deliver(alice.place, element('message', CLIENT, { type: 'groupchat', from: `${ROOM}/bob` }, element('subject', CLIENT, null, 'x'.repeat(40_000))));
  await world.pass(1);
  assert.deepEqual(hall.said, []);
  assert.equal(alice.room.subject.length, 32_768);
  bob.room.say('two');
  await world.pass(1);
  assert.deepEqual(hall.said, ['two']);
});

const REFUSALS = { 'not-authorized': 'auth', forbidden: 'auth', 'registration-required': 'auth', conflict: 'cancel', 'service-unavailable': 'wait', 'item-not-found': 'cancel' };
for (const [condition, type] of Object.entries(REFUSALS)) {
  test(`not let in: ${condition}`, async () => {
    const server = new Server({ users: USERS });
    const world = new World({ server });
    const hall = new Hall(server);
    hall.enter = (place, said) => hall.refuse(place, said, condition, type);
    const alice = await page(server, world, 'alice');
    assert.equal(await alice.entered, condition);
    assert.deepEqual([alice.room.state, alice.events], ['out', []]);
  });
}

test('no answer to the join', async () => {
  const server = new Server({ users: USERS });
  const world = new World({ server });
  const alice = await page(server, world, 'alice');
  await world.pass(20);
  assert.equal(await alice.entered, 'timeout');
});

test('coming back is refused for good: told, and not tried again', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  let tries = 0;
  hall.enter = (place, said) => { tries += 1; hall.refuse(place, said, 'forbidden', 'auth'); };
  server.leave(alice.place);
  cut(server, alice);
  await world.pass(60);
  assert.deepEqual([alice.events.at(-1)[0], alice.events.at(-1)[1].why.word, tries], ['left', 'forbidden', 1]);
});

test('coming back is refused for now: told, and tried again', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  const { enter } = hall;
  hall.enter = (place, said) => hall.refuse(place, said, 'resource-constraint', 'wait');
  server.leave(alice.place);
  cut(server, alice);
  await world.pass(5);
  const away = alice.events.filter(([type]) => type === 'away');
  assert.ok(away.length > 1 && away.every(([, { why, nextTry }]) => why.word === 'resource-constraint' && nextTry));
  assert.equal(alice.room.state, 'away');
  hall.enter = enter;
  await world.pass(10);
  assert.equal(alice.room.state, 'in');
});

test('more than the room takes at once is said again, in order, and before what is said meanwhile', async () => {
  const { world, hall, alice } = await twoInRoom();
  const { say } = hall;
  let [room, tries] = [0, 0];
  hall.say = (nick, said, place) => {
    tries += 1;
    room -= 1;
    if (room < 0) hall.refuse(place, said, 'resource-constraint', 'wait');
    else say.call(hall, nick, said, place);
  };
  const said = Array.from({ length: 60 }, (_, number) => `${number}`);
  const heard = said.map((text) => alice.room.say(text));
  await world.pass(0.5);
  heard.push(alice.room.say('meanwhile'));
  for (let seconds = 0; seconds < 5; seconds += 1) {
    room = 25;
    await world.pass(2);
  }
  await Promise.all(heard);
  assert.deepEqual(hall.said, [...said, 'meanwhile']);
  assert.ok(tries <= 60 + 61 + 2 * 36 + 2 * 11, `${tries}`);
});

test("one's own ghost has the nickname: waited for, then another is taken", async () => {
  const { server, world, hall, alice, bob } = await twoInRoom();
  const ghost = hall.inside.get('alice');
  server.places.delete(alice.place.jid);
  cut(server, alice);
  await world.pass(2);
  assert.equal(alice.events.at(-1)[1].why.word, 'conflict');
  await world.pass(10);
  assert.equal(alice.room.nick, 'alice 2');
  assert.deepEqual(named([...alice.room.occupants.values()]), ['bob', 'alice', 'alice 2']);
  assert.equal(alice.room.occupants.get('o-alice/alice 2').isSelf, true);
  assert.equal(bob.room.occupants.size, 3);
  hall.gone(ghost.place);
  await world.pass(1);
  assert.deepEqual(named([...alice.room.occupants.values()]), ['bob', 'alice 2']);
});

for (const [codes, word] of [[[307], 'kicked'], [[301], 'banned'], [[321], 'members-only'], [[322], 'members-only']]) {
  test(`${word} (${codes})`, async () => {
    const { world, hall, alice, bob } = await twoInRoom();
    hall.gone(alice.place, codes);
    await world.pass(60);
    assert.deepEqual([alice.events.at(-1)[0], alice.events.at(-1)[1].why.word], ['left', word]);
    assert.equal(alice.room.state, 'out');
    assert.deepEqual(named(bob.events.at(-1)[1].left), ['alice']);
  });
}

test('the space is gone (XEP-0045 10.9)', async () => {
  const { server, world, alice } = await twoInRoom();
  server.deliver(alice.place, parse(`<presence xmlns='jabber:client' type='unavailable' from='${ROOM}/alice'><x xmlns='http://jabber.org/protocol/muc#user'>`
    + "<item affiliation='none' role='none'/><status code='110'/><destroy><reason>over</reason></destroy></x></presence>"));
  await world.pass(1);
  assert.equal(alice.events.at(-1)[1].why.word, 'gone');
});

test('the room stops, and starts again (332)', async () => {
  const { world, hall, alice } = await twoInRoom();
  const { enter } = hall;
  hall.enter = (place, said) => hall.refuse(place, said, 'service-unavailable', 'wait');
  hall.gone(alice.place, [332]);
  await world.pass(8);
  assert.deepEqual(alice.events.find(([type]) => type === 'away')[1].why.word, 'system-shutdown');
  hall.enter = enter;
  await world.pass(6);
  assert.equal(alice.events.at(-2)[0], 'back');
});

test('a room that has forgotten everybody is entered again within 20 s (XEP-0410)', async () => {
  const { world, hall, alice } = await twoInRoom();
  hall.inside.clear();
  hall.history = [];
  await world.pass(20);
  assert.equal(alice.room.state, 'in');
  assert.ok(hall.inside.has('alice'));
});

test('a room that has forgotten everybody: at once when something is said, which is heard', async () => {
  const { world, hall, alice } = await twoInRoom();
  hall.inside.clear();
  const heard = alice.room.say('hello');
  await world.pass(1);
  await heard;
  assert.deepEqual(hall.said, ['hello']);
});

test('a room that cannot be reached: told, with the fault that the server tells', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  const { take } = hall;
  hall.take = (place, said) => server.deliver(place, parse(`<${said.name} xmlns='jabber:client' type='error' id='${said.get('id')}' from='${said.get('to')}'>`
    + "<error type='wait'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><no-callbridge xmlns='urn:x-cms:fault:1' step='1'/></error>"
    + `</${said.name}>`));
  await world.pass(16);
  const { why, nextTry } = alice.events.find(([type]) => type === 'away')[1];
  assert.deepEqual([why.word, why.step, nextTry > 0], ['no-callbridge', 1, true]);
  hall.take = take;
  hall.inside.clear();
  await world.pass(6);
  assert.equal(alice.room.state, 'in');
});

test('a room that does not know the ping, and other answers of one that is there', async () => {
  const { world, hall, alice } = await twoInRoom();
  const { take } = hall;
  for (const condition of ['service-unavailable', 'feature-not-implemented', 'item-not-found']) {
    hall.take = (place, said) => hall.refuse(place, said, condition);
    await world.pass(40);
    assert.equal(alice.room.state, 'in', condition);
  }
  hall.take = take;
});

test('a message that is refused', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  hall.say = (nick, said, place) => hall.refuse(place, said, 'policy-violation', 'modify');
  const refused = alice.room.say('x').catch(({ word }) => word);
  await world.pass(1);
  assert.equal(await refused, 'policy-violation');
  assert.deepEqual(alice.room.messages, []);
  server.places.clear();
});

test('the page goes, or the session ends for good', async () => {
  const { server, world, alice } = await twoInRoom();
  server.answers = (said) => said.is('message', CLIENT);
  const never = alice.room.say('x').catch(({ word }) => word);
  server.say(alice.socket, "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>");
  await world.pass(1);
  assert.deepEqual([alice.events.at(-1)[0], alice.events.at(-1)[1].why.word, await never], ['left', 'conflict', 'conflict']);
});

test('entering is cancelled by closing', async () => {
  const world = new World({ server: new Server({ users: USERS }) });
  const alice = await page(world.server, world, 'alice');
  alice.session.close();
  assert.equal(await alice.entered, 'cancelled');
});

test('another nickname (303), one that the room has prepared, and one that somebody else has now', async () => {
  const { server, world, hall, alice, bob } = await twoInRoom();
  const one = hall.inside.get('bob');
  hall.tell('bob', one, [303], 'unavailable', { nick: 'Robert' });
  hall.inside.delete('bob');
  hall.inside.set('Robert', one);
  hall.tell('Robert', one, []);
  await world.pass(1);
  assert.deepEqual(named([...alice.room.occupants.values()]), ['Robert', 'alice'].sort());
  assert.equal(bob.room.nick, 'Robert');
  assert.ok(alice.events.every(([, detail]) => !detail?.left?.length));
  server.deliver(alice.place, hall.presence('Robert', { place: { user: 'carol' }, more: [] }));
  await world.pass(1);
  const { joined, left } = alice.events.at(-1)[1];
  assert.deepEqual([joined[0].id, left[0].id], ['o-carol', 'o-bob']);
});

test('kick', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  let asked = '';
  hall.take = (place, said) => {
    asked = String(said.elements[0]);
    server.deliver(place, element('iq', CLIENT, { type: asked.includes('bob') ? 'result' : 'error', id: said.get('id'), from: said.get('to') }));
  };
  const done = alice.room.kick('bob', '<b>');
  await world.pass(0.1);
  await done;
  assert.equal(asked, "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='bob' role='none'><reason>&lt;b&gt;</reason></item></query>");
  const refused = alice.room.kick('eve').catch(({ name, word }) => word);
  await world.pass(0.1);
  assert.equal(await refused, 'undefined-condition');
});

test('hostile occupants and rooms: bounded, and nobody else is harmed', async () => {
  const { server, world, hall, alice } = await twoInRoom();
  const { place, room } = alice;
  const send = (text) => server.deliver(place, text);
  const before = room.messages.length;
  for (let at = 0; at < 5000; at += 1) {
    send(`<presence xmlns='jabber:client' from='${ROOM}/n${at}'><x xmlns='http://jabber.org/protocol/muc#user'><item role='participant'/></x></presence>`);
    send(`<message xmlns='jabber:client' type='groupchat' from='${ROOM}/n${at}'><body>${at}</body></message>`);
  }
  send(`<presence xmlns='jabber:client' from='${ROOM}/${'n'.repeat(300)}'/>`);
  send(`<message xmlns='jabber:client' type='groupchat' from='${ROOM}/bob'><body>${'y'.repeat(100_000)}</body></message>`);
  send("<message xmlns='jabber:client' type='groupchat' from='other@cb1.meet.example.com/bob'><body>not of this room</body></message>");
  send(`<message xmlns='jabber:client' type='groupchat' from='${ROOM}x/bob'><body>not of this room</body></message>`);
  send(`<message xmlns='jabber:client' type='chat' from='${ROOM}/bob'><body>a whisper</body></message>`);
  send(`<message xmlns='jabber:client' type='groupchat' from='${ROOM}/bob'><body>no date</body><delay xmlns='urn:xmpp:delay' stamp='never'/></message>`);
  await world.pass(5);
  assert.equal(room.occupants.size, 2000);
  assert.equal(room.messages.length, 1000);
  assert.equal(before, 0);
  assert.equal(room.messages.at(-2).text.length, 32_768);
  assert.equal(room.messages.at(-1).text, 'no date');
  assert.ok(!Number.isNaN(room.messages.at(-1).at.getTime()));
  assert.equal(room.state, 'in');
  // somebody says something with the id of another's message
  room.say('mine');
  send(`<message xmlns='jabber:client' type='groupchat' from='${ROOM}/bob' id='1'><occupant-id xmlns='urn:xmpp:occupant-id:0' id='o-bob'/><body>a</body></message>`);
  send(`<message xmlns='jabber:client' type='groupchat' from='${ROOM}/eve' id='1'><occupant-id xmlns='urn:xmpp:occupant-id:0' id='o-eve'/><body>b</body></message>`);
  send(`<message xmlns='jabber:client' type='groupchat' from='${ROOM}/eve' id='2'><stanza-id xmlns='urn:xmpp:sid:0' by='eve@x' id='1'/><body>c</body></message>`);
  await world.pass(1);
  assert.deepEqual(room.messages.slice(-4).map(({ text }) => text).sort(), ['a', 'b', 'c', 'mine']);
  hall.inside.clear();
});

test('the spaces of a user, and the space of a call ID', async () => {
  const { server, world, alice } = await twoInRoom();
  const items = (...list) => list.map((attributes) => element('item', 'http://jabber.org/protocol/disco#items', attributes));
  server.stanza = (place, said) => {
    const [child] = said.elements;
    const to = said.get('to');
    const answer = (...children) => server.deliver(place, element('iq', CLIENT, { type: 'result', id: said.get('id'), from: to, to: place.jid }, ...children));
    if (child.name === 'find' && to === 'cb2.example.com' && child.get('callId') === '123') answer(element('space', 'urn:x-cms:join:1', { jid: 'sales@cb2.example.com', name: 'Sales' }));
    else if (child.name === 'query' && to === DOMAIN) answer(element('query', child.namespace, null, ...items({ jid: 'other.example.com' }, { jid: 'cb2.example.com' })));
    else if (child.name === 'query' && to === 'cb2.example.com') answer(element('query', child.namespace, null, ...items({ jid: 'sales@cb2.example.com', name: 'Sales', callId: '123' }, { jid: 'x.example.com' })));
    else {
      const condition = child.name === 'find' && to === 'cb2.example.com' ? 'item-not-found' : 'feature-not-implemented';
      server.deliver(place, element('iq', CLIENT, { type: 'error', id: said.get('id'), from: to }, element('error', CLIENT, null, element(condition, 'urn:ietf:params:xml:ns:xmpp-stanzas'))));
    }
  };
  const found = [spaces(alice.session), find(alice.session, '123'), find(alice.session, '7').catch(({ word }) => word)];
  await world.pass(1);
  assert.deepEqual(await Promise.all(found), [[{ jid: 'sales@cb2.example.com', name: 'Sales', callId: '123' }], { jid: 'sales@cb2.example.com', name: 'Sales' }, 'item-not-found']);
});
