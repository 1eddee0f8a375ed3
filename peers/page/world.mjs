/** A page without a browser: its clock, its WebSockets and its keys are those of a test. */

import { createHash, createHmac, pbkdf2Sync, webcrypto } from 'node:crypto';

import { parse } from '../../cms/door/static/session.js';

globalThis.CustomEvent ??= class extends Event { // node 18
  constructor(type, options) {
    super(type, options);
    this.detail = options?.detail ?? null;
  }
};

/** The same numbers for each seed (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Let everything happen that waits for nothing but its turn. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** What a page has of WebCrypto, without threads, and with what it was asked for. */
export class Keyring {
  constructor(random) {
    this.random = random;
    this.derived = 0;
    this.subtle = {
      importKey: async (format, raw) => Buffer.from(raw),
      deriveBits: async ({ salt, iterations }, key, bits) => {
        this.derived += 1;
        return bytes(pbkdf2Sync(key, Buffer.from(salt), iterations, bits / 8, 'sha256'));
      },
      sign: async (name, key, data) => bytes(createHmac('sha256', key).update(data).digest()),
      verify: async (name, key, proof, data) => createHmac('sha256', key).update(data).digest().equals(Buffer.from(proof)),
      digest: async (name, data) => bytes(createHash('sha256').update(Buffer.from(data)).digest()),
    };
  }

  getRandomValues(array) {
    return array.map((_, at) => { array[at] = Math.floor(this.random() * 256); return array[at]; });
  }

  randomUUID() {
    return webcrypto.randomUUID();
  }
}

const bytes = (buffer) => new Uint8Array(buffer).buffer;

/** One WebSocket: `server` has its other end. */
export class Socket {
  constructor(server) {
    this.server = server;
    this.readyState = 0;
    this.sent = [];
    this.isDeaf = false; // nothing arrives any more, on either side
  }

  send(text) {
    if (this.readyState !== 1) throw new Error('InvalidStateError');
    this.sent.push(text);
    if (!this.isDeaf) this.server.heard?.(this, parse(text), text);
  }

  close() {
    if (this.readyState < 2) {
      this.readyState = 3;
      if (!this.isDeaf) this.server.left?.(this);
    }
  }

  // what the server does

  open() {
    this.readyState = 1;
    this.onopen?.({});
  }

  say(text) {
    if (this.readyState === 1 && !this.isDeaf) this.onmessage?.({ data: String(text) });
  }

  drop() {
    this.readyState = 3;
    this.onclose?.({ code: 1006 });
  }
}

/** A page: events, a clock that goes when it is told to, and what it was asked to connect to. */
export class World {
  constructor({ server = {}, seed = 1 } = {}) {
    this.server = server;
    server.world = this;
    this.sockets = [];
    this.random = randomOf(seed);
    this.crypto = new Keyring(randomOf(seed + 1));
    this.time = 1_700_000_000_000;
    this.timers = [];
    this.page = new EventTarget();
    this.sight = new EventTarget();
    this.network = new EventTarget();
    this.hidden = false;
    this.kept = new Map();
    this.storage = { getItem: (key) => this.kept.get(key) ?? null, setItem: (key, value) => this.kept.set(key, value) };
    this.language = 'en';
    this.connect = (url) => {
      const socket = new Socket(this.server);
      socket.url = url;
      this.sockets.push(socket);
      this.server.connected?.(socket);
      return socket;
    };
    this.later = (call, seconds) => {
      const timer = { due: this.time + seconds * 1000, call };
      this.timers.push(timer);
      return timer;
    };
    this.cancel = (timer) => { this.timers = this.timers.filter((one) => one !== timer); };
    this.now = () => this.time;
    this.isHidden = () => this.hidden;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Let so many seconds pass. */
  async pass(seconds) {
    const until = this.time + seconds * 1000;
    await settle();
    for (;;) {
      const [next] = this.timers.sort((a, b) => a.due - b.due);
      if (!next || next.due > until) break;
      this.time = Math.max(this.time, next.due);
      this.cancel(next);
      next.call();
      await settle();
    }
    this.time = until;
    await settle();
  }

  fire(type, target = this.page, more = {}) {
    target.dispatchEvent(Object.assign(new Event(type), more));
  }
}

/** What a session says of itself. */
export function statesOf(session) {
  const states = [];
  session.addEventListener('state', ({ detail }) => states.push(detail));
  return states;
}
