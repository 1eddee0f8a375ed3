import assert from 'node:assert/strict';
import test from 'node:test';

import { Session } from '../../cms/door/static/session.js';
import { Room } from '../../cms/door/static/room.js';
import { DOMAIN, Hall, ROOM, Server } from './server.mjs';
import { World, randomOf } from './world.mjs';

const USERS = ['alice', 'bob', 'carol'];
const CUTS = 25;
const KINDS = ['reset', 'half dead', 'half dead, then reset', 'session over'];

/** Three talk while their connections are cut at random; what each has heard, and which cuts were made. */
async function talk(seed, options) {
  const random = randomOf(seed);
  const server = new Server({ ...options, users: Object.fromEntries(USERS.map((user) => [user, user])) });
  const world = new World({ server, seed });
  const hall = new Hall(server);
  const cuts = {};
  const pages = USERS.map((user) => {
    const own = Object.assign(Object.create(world), { sockets: [], kept: new Map() });
    own.storage = { getItem: (key) => own.kept.get(key) ?? null, setItem: (key, value) => own.kept.set(key, value) };
    own.connect = (url) => { const socket = world.connect(url); own.sockets.push(socket); return socket; };
    const session = new Session({ url: 'wss://x', domain: DOMAIN, jid: `${user}@${DOMAIN}`, password: user }, own);
    const room = new Room(session, { jid: ROOM, nick: user });
    session.start();
    room.enter();
    return { user, session, room, own, said: 0 };
  });
  await world.pass(2);
  const talks = (page) => { page.said += 1; page.room.say(`${page.user} ${page.said}`); };
  const hit = (page, kind) => {
    const socket = page.own.sockets.at(-1);
    cuts[kind] = (cuts[kind] ?? 0) + 1;
    if (kind === 'session over') server.leave([...server.places.values()].find(({ jid }) => jid === page.session.jid));
    if (kind.startsWith('half dead')) socket.isDeaf = true;
    else server.cut(socket);
    if (kind !== 'half dead') world.later(() => socket.drop(), random() * (kind === 'half dead, then reset' ? 2 : 0.001));
  };
  for (let times = 0; times < CUTS; times += 1) {
    for (let at = 0; at < 4; at += 1) {
      talks(pages[Math.floor(random() * pages.length)]);
      await world.pass(random() * random() * 2);
    }
    const page = pages[Math.floor(random() * pages.length)];
    hit(page, KINDS[Math.floor(random() * (options.manages === false ? 1 : KINDS.length))]);
    if (random() < 0.3) talks(page);
    await world.pass(random() * random() * 0.1);
  }
  await world.pass(120);
  return { pages, hall, cuts, world };
}

for (const inline of [true, false]) {
  for (let seed = 1; seed <= 12; seed += 1) {
    test(`cuts at random, ${inline ? 'SASL2' : 'RFC 6120'}, seed ${seed}: nothing lost, doubled or out of order`, async () => {
      const { pages, hall, cuts } = await talk(seed, { inline });
      const total = pages.reduce((sum, { said }) => sum + said, 0);
      for (const { room, session, user } of pages) {
        assert.equal(session.state, 'online');
        assert.equal(room.state, 'in');
        for (const { user: other, said } of pages) {
          const heard = room.messages.filter(({ text }) => text.startsWith(`${other} `)).map(({ text }) => Number(text.split(' ')[1]));
          assert.deepEqual(heard, Array.from({ length: said }, (_, at) => at + 1), `${other} as heard by ${user}`);
        }
        assert.deepEqual([...room.occupants.keys()].sort(), USERS.map((one) => `o-${one}`));
      }
      assert.equal(new Set(hall.said).size, total);
      assert.equal(Object.values(cuts).reduce((sum, count) => sum + count), CUTS);
    });
  }
}
