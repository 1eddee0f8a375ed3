import assert from 'node:assert/strict';
import test from 'node:test';

import { Session } from '../../cms/door/static/session.js';
import { Room } from '../../cms/door/static/room.js';
import { DOMAIN, Hall, ROOM, Server } from './server.mjs';
import { World, settle, statesOf } from './world.mjs';

const URL = `wss://${DOMAIN}/xmpp-websocket`;
const ACCOUNT = { url: URL, domain: DOMAIN, jid: `alice@${DOMAIN}`, password: 'secret' };

test('logs in by SASL2', async () => {
  const server = new Server();
  const world = new World({ server });
  const session = new Session(ACCOUNT, world);
  const states = statesOf(session);
  session.start();
  await world.pass(1);
  assert.deepEqual(states.map(({ state }) => state), ['connecting', 'online']);
  const hall = new Hall(server);
  const room = new Room(session, {jid: ROOM, nick: 'Alice'});
  const p = room.enter();
  await world.pass(1);
  await p;
  assert.equal(room.occupants.size, 1);
  room.say('hello <b>');
  await world.pass(1);
  assert.deepEqual(room.messages.map(m => m.text), ['hello <b>']);
  server.cut(world.socket); world.socket.drop();
  await world.pass(1);
  assert.deepEqual(states.map(({ state, resumed }) => state+resumed), ['connecting', 'online']);
});
