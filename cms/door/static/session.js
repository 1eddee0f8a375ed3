/**
 * An XMPP session in a page: RFC 7395, SASL2 (XEP-0388) or SASL of RFC 6120 with SCRAM-SHA-256 or PLAIN,
 * Bind 2 (XEP-0386), stream management with resumption (XEP-0198), and its return after any loss.
 * docs/design/page-session.md has the reasons.
 */

const FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing';
const STREAMS = 'http://etherx.jabber.org/streams';
const STREAM_ERRORS = 'urn:ietf:params:xml:ns:xmpp-streams';
const STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas';
const SASL = 'urn:ietf:params:xml:ns:xmpp-sasl';
const SASL2 = 'urn:xmpp:sasl:2';
const BIND = 'urn:ietf:params:xml:ns:xmpp-bind';
const BIND2 = 'urn:xmpp:bind:0';
const SM = 'urn:xmpp:sm:3';
const FAULT = 'urn:x-cms:fault:1';
const PING = 'urn:xmpp:ping';
const PLAIN = 'PLAIN';
const MECHANISMS = ['SCRAM-SHA-256', PLAIN]; // the first that is offered
export const CLIENT = 'jabber:client';

// Seconds.
const DELAYS = [0, 0.5, 1, 2, 4, 5];
const [FAST_FOR, SLOW] = [300, 30]; // how long the last of these is used, and what follows
const STABLE = 10; // a connection that lasted so long starts the delays anew
const [OPENING, LOGGING_IN, ANSWER] = [10, 30, 30];
const [IDLE, PATIENCE] = [30, 5]; // until a connection is asked for a sign of life, and that is waited for
const [BACK, CHANGED, SEEN] = [0.5, 1, 2]; // the latter when the network is back or another, or the page is looked at

const MOST_FRAME = 1 << 20; // characters
const MOST_DEPTH = 64;
const MOST_WAITING = 1 << 18; // characters of stanzas that are not acknowledged, or not sent
const MOST_REQUESTS = 100;
const MOST_REFUSALS = 2; // of a log-in with new credentials
const FRESH = 30; // seconds in which credentials should be used
const [LEAST_ROUNDS, MOST_ROUNDS] = [4096, 1_000_000];

// After these the stream may be opened again (RFC 6120 4.9.3); any other ends the session.
const PASSING = new Set(['connection-timeout', 'internal-server-error', 'remote-connection-failed',
  'reset', 'resource-constraint', 'system-shutdown', 'undefined-condition']);

/**
 * Why something is not so. `word` is a fault of the catalogue, or the condition of a stream, SASL or
 * stanza error; or, of our own: `offline` (no connection can be made), `timeout` (no answer in time),
 * `cancelled` (closed by the page), `session-lost`, `too-much-waits`, `server-not-proven`, `no-mechanism`.
 */
export class Fault extends Error {
  /**
   * @param {string} word
   * @param {{seconds?: number, step?: number, type?: string, over?: boolean}} [more]
   */
  constructor(word, { seconds = 0, step = 0, type = '', over = false } = {}) {
    super(word);
    this.word = word;
    /** How long it lasts; 0: not told. */
    this.seconds = seconds;
    /** Of the signal flow, 1 to 12; 0: not told. */
    this.step = step;
    /** Of a stanza error: 'auth', 'cancel', 'modify', 'wait'. */
    this.type = type;
    /** It does not pass by itself: nothing is tried again. */
    this.over = over;
  }
}

// XML. DOMParser is a way to markup for Trusted Types, so it is not used.

/** An element; text and names are those of the XML, never markup of the page. */
export class XMLElement {
  /**
   * @param {string} name
   * @param {string} namespace
   * @param {Record<string, string>} attributes those in a namespace as 'namespace name', which are only read
   * @param {(XMLElement | string)[]} children
   */
  constructor(name, namespace, attributes, children) {
    this.name = name;
    this.namespace = namespace;
    this.attributes = attributes;
    this.children = children;
  }

  /** @returns {XMLElement[]} */
  get elements() {
    return this.children.flatMap((child) => (typeof child === 'string' ? [] : [child]));
  }

  /** Its own text, without that of its children. */
  get text() {
    return this.children.filter((child) => typeof child === 'string').join('');
  }

  /** @param {string} name @returns {string} the attribute; empty if there is none */
  get(name) {
    return this.attributes[name] ?? '';
  }

  /** @param {string} name @param {string} [namespace] its own unless given */
  child(name, namespace = this.namespace) {
    return this.elements.find((one) => one.is(name, namespace));
  }

  /** @param {string} name @param {string} namespace */
  is(name, namespace) {
    return this.name === name && this.namespace === namespace;
  }

  /** @param {string} [outer] the namespace around it @returns {string} */
  toString(outer = '') {
    const { name, namespace } = this;
    let head = `<${name}`;
    if (namespace !== outer) head += ` xmlns='${escaped(namespace)}'`;
    for (const [key, value] of Object.entries(this.attributes)) {
      head += ` ${key}='${escaped(value)}'`;
    }
    if (!this.children.length) return `${head}/>`;
    const inner = this.children.map((child) => (typeof child === 'string' ? escaped(child) : child.toString(namespace)));
    return `${head}>${inner.join('')}</${name}>`;
  }
}

/**
 * Build an element. Attributes and children that are null, undefined or false are left out.
 * @param {string} name
 * @param {string} namespace
 * @param {Record<string, string | number | boolean | null | undefined> | null} [attributes]
 * @param {...(XMLElement | string | null | undefined | false)} children
 */
export function element(name, namespace, attributes, ...children) {
  /** @type {Record<string, string>} */
  const given = Object.create(null);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) given[key] = String(value);
  }
  const kept = children.flatMap((child) => (child || child === '' ? [child] : []));
  return new XMLElement(name, namespace, given, kept);
}

/** @type {Record<string, string>} */
const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** @type {Record<string, string>} */
const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&apos;', '\t': '&#9;', '\n': '&#10;', '\r': '&#13;' };
const CLUSTERS = /<(\/?)([^\s<>&'"=/!?]+)((?:\s+[^\s<>&'"=/]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>|<!\[CDATA\[([^]*?)\]\]>|([^<]+)/y;
const ATTRIBUTE = /([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g;
// Characters that are not in XML 1.0 (2.2), and halves of surrogate pairs.
const NO_XML = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** @param {string} text */
function escaped(text) {
  return text.replace(NO_XML, '\ufffd').replace(/[&<>'\t\n\r]/g, (found) => ESCAPES[found]);
}

/** @param {string} text */
function unescaped(text) {
  return text.replace(/&(?:#(x?)([0-9a-f]{1,6})|(\w*));?/gi, (whole, hex, number, name) => {
    if (!whole.endsWith(';')) throw new SyntaxError('entity');
    if (name !== undefined) {
      if (!Object.hasOwn(ENTITIES, name)) throw new SyntaxError('entity');
      return ENTITIES[name];
    }
    return String.fromCodePoint(parseInt(number, hex ? 16 : 10));
  });
}

/**
 * Read the one element of a frame (RFC 7395 3.3.3), in the XML of RFC 6120 11.1.
 * @param {string} source
 * @returns {XMLElement}
 * @throws {SyntaxError | RangeError} it is nothing of the kind
 */
export function parse(source) {
  if (source.length > MOST_FRAME) throw new RangeError('frame');
  const text = source.replace(/\r\n?/g, '\n');
  const top = element('', '');
  /** @type {{node: XMLElement, tag: string, names: Record<string, string>}[]} */
  const open = [{ node: top, tag: '', names: { '': '', xml: 'xml' } }];
  CLUSTERS.lastIndex = 0;
  while (CLUSTERS.lastIndex < text.length) {
    const found = CLUSTERS.exec(text);
    if (!found) throw new SyntaxError('token');
    const [, closes, tag, attributes, isEmpty, data, words] = found;
    const { node, tag: last, names } = open[open.length - 1];
    if (tag === undefined) {
      const said = data ?? unescaped(words);
      if (open.length > 1) node.children.push(said);
      else if (said.trim()) throw new SyntaxError('text');
    } else if (closes) {
      if (tag !== last || attributes || isEmpty) throw new SyntaxError('end');
      open.pop();
    } else {
      if (open.length > MOST_DEPTH || (open.length === 1 && top.children.length)) throw new SyntaxError('depth');
      const made = started(tag, attributes, names);
      node.children.push(made.node);
      if (!isEmpty) open.push({ ...made, tag });
    }
  }
  const [only] = top.elements;
  if (open.length !== 1 || !only) throw new SyntaxError('end');
  return only;
}

/** @param {string} tag @param {string} source @param {Record<string, string>} outer */
function started(tag, source, outer) {
  let names = outer;
  const given = [...source.matchAll(ATTRIBUTE)].map((one) => [one[1], unescaped((one[2] ?? one[3]).replace(/\s/g, ' '))]);
  for (const [key, value] of given) {
    if (key === 'xmlns' || key.startsWith('xmlns:')) names = { ...names, [key.slice(6)]: value };
  }
  const [name, namespace] = qualified(tag, names, true);
  const node = element(name, namespace);
  for (const [key, value] of given) {
    if (key === 'xmlns' || key.startsWith('xmlns:')) continue;
    const [local, space] = qualified(key, names, false);
    const full = space === 'xml' ? key : space ? `${space} ${local}` : local;
    if (full in node.attributes) throw new SyntaxError('attribute');
    node.attributes[full] = value;
  }
  return { node, names };
}

/** @param {string} name @param {Record<string, string>} names @param {boolean} isTag */
function qualified(name, names, isTag) {
  const colon = name.indexOf(':');
  if (colon < 0) return [name, isTag ? names[''] : ''];
  const prefix = name.slice(0, colon);
  if (!Object.hasOwn(names, prefix)) throw new SyntaxError('prefix');
  return [name.slice(colon + 1), names[prefix]];
}

/**
 * The fault that an error tells: a stanza's, or a stream's; the fault of the catalogue goes first.
 * @param {XMLElement} error
 * @param {string} namespace of the conditions
 */
export function faultOf(error, namespace = STANZAS) {
  const condition = error.elements.find((one) => one.namespace === namespace && one.name !== 'text');
  const told = error.elements.find((one) => one.namespace === FAULT);
  return new Fault(told?.name ?? condition?.name ?? 'undefined-condition', {
    seconds: number(told?.get('seconds')),
    step: number(told?.get('step')),
    type: error.get('type'),
    over: namespace === STREAM_ERRORS && !PASSING.has(condition?.name ?? 'undefined-condition'),
  });
}

/** @param {string | undefined} text */
function number(text) {
  return /^\d{1,10}$/.test(text ?? '') ? Number(text) : 0;
}

// SCRAM-SHA-256 (RFC 5802, 7677) on WebCrypto.

const UTF8 = new TextEncoder();
/** @param {ArrayBuffer | Uint8Array} bytes */
const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
/** @param {string} text */
const bytesOf = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const HMAC = { name: 'HMAC', hash: 'SHA-256' };
const MAPPED = /[\u00ad\u034f\u1806\u180b-\u180d\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]/g;
const SPACES = /[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/g;

/** A password, of which nothing but keys is kept once SCRAM was on offer, and those that were derived last. */
class Keys {
  /** @param {string} password @param {Crypto} crypto */
  constructor(password, crypto) {
    if (!crypto.subtle) throw new Fault('encryption-required', { over: true }); // no https, and not this host
    this.password = password;
    const prepared = password.replace(SPACES, ' ').replace(MAPPED, '').normalize('NFKC'); // RFC 4013
    this.crypto = crypto;
    this.base = crypto.subtle.importKey('raw', UTF8.encode(prepared), 'PBKDF2', false, ['deriveBits']);
    /** @type {{of: string, client: Uint8Array, stored: CryptoKey, server: CryptoKey} | null} */
    this.last = null;
  }

  /** @param {string} salt base64 @param {number} iterations */
  async derive(salt, iterations) {
    const of = `${iterations},${salt}`;
    if (this.last?.of !== of) {
      const { subtle } = this.crypto;
      /** @param {ArrayBuffer} raw */
      const key = (raw) => subtle.importKey('raw', raw, HMAC, false, ['sign', 'verify']);
      const how = { name: 'PBKDF2', hash: 'SHA-256', salt: bytesOf(salt), iterations };
      const salted = await key(await subtle.deriveBits(how, await this.base, 256));
      const client = await subtle.sign('HMAC', salted, UTF8.encode('Client Key'));
      const server = await key(await subtle.sign('HMAC', salted, UTF8.encode('Server Key')));
      const stored = await key(await subtle.digest('SHA-256', client));
      this.last = { of, client: new Uint8Array(client), stored, server };
    }
    return this.last;
  }
}

class Scram {
  /** @param {string} user @param {Keys} keys */
  constructor(user, keys) {
    this.keys = keys;
    this.nonce = base64(keys.crypto.getRandomValues(new Uint8Array(15)));
    this.bare = `n=${user.replace(/=/g, '=3D').replace(/,/g, '=2C')},r=${this.nonce}`;
  }

  /** The initial response. */
  first() {
    return base64(UTF8.encode(`n,,${this.bare}`));
  }

  /** @param {string} challenge base64 */
  async respond(challenge) {
    const said = atob(challenge);
    const found = /^r=([!-+\--~]+),s=([A-Za-z0-9+/]+=*),i=([1-9]\d{0,6})(,|$)/.exec(said);
    const rounds = Number(found?.[3]);
    if (!found || !found[1].startsWith(this.nonce) || found[1] === this.nonce || rounds < LEAST_ROUNDS || rounds > MOST_ROUNDS) {
      throw new Fault('server-not-proven', { over: true });
    }
    const { client, stored, server } = await this.keys.derive(found[2], rounds);
    const final = `c=biws,r=${found[1]}`;
    const signed = UTF8.encode(`${this.bare},${said},${final}`);
    const signature = new Uint8Array(await this.keys.crypto.subtle.sign('HMAC', stored, signed));
    this.server = server;
    this.signed = signed;
    return base64(UTF8.encode(`${final},p=${base64(client.map((byte, at) => byte ^ signature[at]))}`));
  }

  /** @param {string} data base64; what comes with the success */
  async verify(data) {
    const found = /^v=([A-Za-z0-9+/]+=*)(,|$)/.exec(atob(data));
    const proof = found && this.server && this.signed
      && (await this.keys.crypto.subtle.verify('HMAC', this.server, bytesOf(found[1]), this.signed));
    if (!proof) throw new Fault('server-not-proven', { over: true });
  }
}

/**
 * What a session needs of its surroundings; of a page unless given.
 * @typedef {object} World
 * @property {(url: string) => WebSocket} connect
 * @property {Crypto} crypto
 * @property {(call: () => void, seconds: number) => unknown} later
 * @property {(timer: any) => void} cancel
 * @property {() => number} now milliseconds since the epoch
 * @property {() => number} random 0 to 1
 * @property {EventTarget | null} page hears online, offline, pagehide, pageshow
 * @property {EventTarget | null} sight hears visibilitychange
 * @property {EventTarget | null} network hears change
 * @property {() => boolean} isHidden
 * @property {Pick<Storage, 'getItem' | 'setItem'>} storage of this tab; may throw
 * @property {string} language
 */

/** @returns {World} */
function surroundings() {
  return {
    connect: (url) => new WebSocket(url, 'xmpp'),
    crypto: globalThis.crypto,
    later: (call, seconds) => setTimeout(call, seconds * 1000),
    cancel: (timer) => clearTimeout(timer),
    now: () => Date.now(),
    random: () => Math.random(),
    page: window,
    sight: document,
    network: /** @type {any} */ (navigator).connection ?? null,
    isHidden: () => document.hidden,
    get storage() { return sessionStorage; },
    language: navigator.language,
  };
}

/** One connection, while a log-in awaits its elements one after the other. */
class Stream {
  /** @param {World} world @param {string} url @param {(stream: Stream, fault: Fault) => void} lost */
  constructor(world, url, lost) {
    /** @type {XMLElement[]} */
    this.heard = [];
    /** @type {((element: XMLElement) => void) | null} */
    this.listener = null;
    this.isOpen = false;
    this.isOver = false;
    this.began = world.now();
    this.lost = lost;
    /** @type {(fault: Fault) => void} */
    this.abandon = () => {};
    /** @type {(element: XMLElement) => void} */
    this.proceed = () => {};
    this.world = world;
    this.timer = world.later(() => this.fail(new Fault('timeout')), OPENING);
    const socket = (this.socket = world.connect(url));
    this.opened = new Promise((resolve, reject) => {
      socket.onopen = () => {
        this.isOpen = true;
        this.limit(LOGGING_IN);
        resolve(null);
      };
      this.abandon = reject;
    });
    this.opened.catch(() => {});
    socket.onmessage = ({ data }) => this.hear(data);
    socket.onclose = () => this.fail(new Fault('offline'));
  }

  /** @param {number} seconds until it has failed; 0: never */
  limit(seconds) {
    this.world.cancel(this.timer);
    this.timer = seconds && this.world.later(() => this.fail(new Fault('timeout')), seconds);
  }

  /** @param {unknown} data */
  hear(data) {
    if (this.isOver) return;
    let said;
    try {
      said = parse(String(data));
    } catch {
      // Not to be heard again with each resumption: a stanza that nobody can read is handled.
      const name = /^\s*<(message|presence|iq)[\s/>]/.exec(String(data).slice(0, 100))?.[1];
      if (!name || !this.listener) {
        this.fail(new Fault('not-well-formed'));
        return;
      }
      said = element(name, '');
    }
    if (said.is('error', STREAMS)) this.fail(faultOf(said, STREAM_ERRORS));
    else if (said.is('close', FRAMING)) this.fail(new Fault('offline'));
    else if (this.listener) this.listener(said);
    else {
      this.heard.push(said);
      this.advance();
    }
  }

  advance() {
    const first = this.heard[0];
    const { proceed } = this;
    if (first) {
      this.proceed = () => {};
      proceed(first);
    }
  }

  /** @param {(element: XMLElement) => void} listener hears what comes from now on */
  listen(listener) {
    this.listener = listener;
    for (const said of this.heard.splice(0)) listener(said);
  }

  /** @returns {Promise<XMLElement>} the next element */
  async next() {
    if (!this.heard.length) {
      await new Promise((resolve, reject) => {
        this.proceed = resolve;
        this.abandon = reject;
        if (this.isOver) reject(new Fault('offline'));
      });
    }
    return /** @type {XMLElement} */ (this.heard.shift());
  }

  /** @param {XMLElement | string} what */
  write(what) {
    if (!this.isOver && this.isOpen) this.socket.send(String(what));
  }

  /** @param {Fault} fault */
  fail(fault) {
    if (this.isOver) return;
    this.end();
    this.abandon(fault);
    this.lost(this, fault);
  }

  end() {
    this.isOver = true;
    this.world.cancel(this.timer);
    const { socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close();
  }
}

/** What is not acknowledged, or not sent yet, and the counters of both directions (XEP-0198 4). */
export class Ledger {
  /** @type {{xml: string, tried: boolean, request: string}[]} */ out = [];
  sent = 0; // how many of them on this stream
  size = 0;

  /** @param {number} [start] of the counters */
  constructor(start = 0) {
    this.handled = start; // theirs
    this.acknowledged = start; // ours
  }

  handle() {
    this.handled = (this.handled + 1) >>> 0;
  }

  /** @param {string} xml @param {string} request its id, if it is one */
  add(xml, request) {
    if (this.size + xml.length > MOST_WAITING) throw new Fault('too-much-waits');
    this.size += xml.length;
    this.out.push({ xml, tried: false, request });
  }

  /** @param {number} count of them need not be kept */
  shift(count) {
    for (const { xml } of this.out.splice(0, count)) this.size -= xml.length;
    this.sent -= Math.min(count, this.sent);
  }

  /** @param {string} h @returns {boolean} whether so many can have been handled */
  acknowledge(h) {
    const count = (Number(h) - this.acknowledged) >>> 0;
    if (!/^\d{1,10}$/.test(h) || count > this.out.length || !(this.out[count - 1]?.tried ?? true)) return false;
    this.acknowledged = Number(h) >>> 0;
    this.shift(count);
    return true;
  }

  /** Nothing but these is left, and counting begins anew. @param {(item: {tried: boolean, request: string}) => unknown} keeps */
  restart(keeps) {
    this.out = this.out.filter(keeps);
    this.size = this.out.reduce((sum, { xml }) => sum + xml.length, 0);
    this.sent = this.handled = this.acknowledged = 0;
  }
}

/**
 * @typedef {object} Account
 * @property {string} jid bare
 * @property {string} password
 */

/**
 * @typedef {object} StateDetail
 * @property {'new' | 'connecting' | 'online' | 'waiting' | 'over'} state
 * @property {Fault | null} fault why it is waiting or over; null when it was closed
 * @property {number | null} nextTry milliseconds since the epoch
 * @property {boolean} resumed nothing was lost; false: a new session, nothing of the old one is left
 */

/**
 * A session, and its return.
 *
 * Events: `state` (CustomEvent with a StateDetail), `stanza` (CustomEvent with an XMLElement: each message
 * and presence, and each request of others, which is refused unless `preventDefault()` says that it is
 * answered).
 */
export class Session extends EventTarget {
  /** @type {StateDetail['state']} */
  state = 'new';
  /** The full address; of the last session, when there is none now. */
  jid = '';

  /** @type {World} */ world;
  #url;
  domain;
  /** @type {(() => Promise<Account>) | null} */ #credentials;
  /** @type {Keys | null} */ #keys = null;
  /** @type {Promise<Account> | null} */ #granted = null; // while it is asked for
  #account = '';
  #freshUntil = 0; // when the keys that no log-in has used are too old for one
  #refusals = 0; // in a row
  /** @type {Stream | null} */ #stream = null;
  /** @type {unknown} */ #retry = null;
  /** @type {unknown} */ #idle = null;
  /** @type {unknown} */ #patience = null;
  #tries = 0;
  #lostAt = 0;
  #onlineAt = 0;
  #wasOnline = false;
  #previd = '';
  #isManaged = false;
  #isAsking = false;
  #ledger = new Ledger();
  #number = 0;
  /** @type {string} */ #prefix;
  /** @type {Map<string, {to: string, resolve: (answer: XMLElement) => void, reject: (fault: Fault) => void, timer: unknown}>} */
  #requests = new Map();
  /** @type {AbortController | null} */ #listening = null;

  /**
   * @param {object} settings
   * @param {string} settings.url of the WebSocket
   * @param {string} settings.domain
   * @param {string} [settings.jid] bare
   * @param {string} [settings.password]
   * @param {(() => Promise<Account>) | null} [settings.credentials] gives an account for one log-in: for the
   *   first if none is given here, and for each that follows. Of the same account a session is resumed. A Fault that it throws with `over` ends the
   *   session; anything else is tried again, after the fault's `seconds`.
   * @param {World} [world]
   */
  constructor({ url, domain, jid = '', password = '', credentials = null }, world = surroundings()) {
    super();
    this.world = world;
    this.#url = url;
    this.domain = domain;
    this.#credentials = credentials;
    this.#prefix = base64(this.world.crypto.getRandomValues(new Uint8Array(6)));
    if (jid) this.#take({ jid, password });
  }

  /** Connect, and stay connected until `close()` or a fault that does not pass. */
  start() {
    if (this.#listening) return;
    const listening = (this.#listening = new AbortController());
    /** @param {EventTarget | null} target @param {string} type @param {(event: any) => void} call */
    const on = (target, type, call) => target?.addEventListener(type, call, { signal: listening.signal });
    const { page, sight, network } = this.world;
    on(page, 'online', () => this.#doubt(BACK));
    on(network, 'change', () => this.#doubt(CHANGED));
    on(page, 'offline', () => this.state === 'online' && this.#doubt(CHANGED));
    on(sight, 'visibilitychange', () => this.world.isHidden() || this.#doubt(SEEN));
    on(page, 'pagehide', () => {
      this.#leave();
      this.#tell('waiting', new Fault('cancelled'));
    });
    on(page, 'pageshow', ({ persisted }) => persisted && this.retry());
    this.#begin();
  }

  /** Try at once what would be tried later. */
  retry() {
    if (this.state === 'waiting') this.#begin();
  }

  /** End it, and tell the server. */
  close() {
    if (this.state !== 'over') {
      this.#leave();
      this.#over(null);
    }
  }

  /**
   * Send a stanza; without a connection it waits. It is lost with its session, unless that is resumed.
   * @param {XMLElement} stanza
   * @throws {Fault} too much waits, or the session is over
   */
  send(stanza) {
    this.#send(stanza, '');
  }

  /**
   * Send a request.
   * @param {XMLElement} stanza an iq of type get or set; its id is set
   * @returns {Promise<XMLElement>} the answer; rejects with a Fault
   */
  iq(stanza) {
    return new Promise((resolve, reject) => {
      if (this.#requests.size >= MOST_REQUESTS) throw new Fault('too-much-waits');
      const id = (stanza.attributes.id = this.nextId());
      this.#send(stanza, id);
      const timer = this.world.later(() => this.#settle(id)?.reject(new Fault('timeout')), ANSWER);
      this.#requests.set(id, { to: stanza.get('to'), resolve, reject, timer });
    });
  }

  /** An id that no other stanza has. */
  nextId() {
    this.#number += 1;
    return `${this.#prefix}-${this.#number}`;
  }

  /**
   * @param {StateDetail['state']} state
   * @param {Fault | null} [fault]
   * @param {number | null} [nextTry]
   * @param {boolean} [resumed]
   */
  #tell(state, fault = null, nextTry = null, resumed = false) {
    this.state = state;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, fault, nextTry, resumed } }));
  }

  // connecting, and what follows a loss

  /** @param {Account} account */
  #take({ jid, password }) {
    this.#account = jid;
    this.#keys = new Keys(password, this.world.crypto);
    this.#freshUntil = this.world.now() + FRESH * 1000;
  }

  #begin() {
    this.world.cancel(this.#retry);
    this.#drop();
    const stream = (this.#stream = new Stream(this.world, this.#url, (_, fault) => this.#lost(fault)));
    if (this.state !== 'connecting') this.#tell('connecting');
    this.#login(stream).catch((problem) => {
      if (this.#stream !== stream) return;
      this.#lost(problem instanceof Fault ? problem : new Fault('not-well-formed'));
    });
  }

  #drop() {
    this.#stream?.end();
    this.#stream = null;
    this.#quiet();
    this.world.cancel(this.#idle);
  }

  /** @param {Fault} fault */
  #lost(fault) {
    const { now, random, later } = this.world;
    this.#drop();
    if (fault.over) {
      this.#over(fault);
      return;
    }
    if (this.state === 'online') {
      this.#lostAt = now();
      // The next is at once, but for a connection that was lost as soon as it was there.
      this.#tries = now() - this.#onlineAt >= STABLE * 1000 ? 0 : Math.min(this.#tries, 1);
    } else if (!this.#lostAt) this.#lostAt = now();
    // A server that stops ends all its sessions at once.
    if (fault.word === 'system-shutdown') this.#tries = Math.max(this.#tries, 1);
    const last = DELAYS.length - 1;
    const isLong = now() - this.#lostAt >= FAST_FOR * 1000;
    const delay = this.#tries > last && isLong ? SLOW : DELAYS[Math.min(this.#tries, last)];
    this.#tries += 1;
    const seconds = Math.max(delay, fault.seconds) * (0.8 + random() * 0.4);
    this.#retry = later(() => this.#begin(), Math.max(seconds, fault.seconds));
    this.#tell('waiting', fault, now() + Math.max(seconds, fault.seconds) * 1000);
  }

  /** @param {Fault | null} fault */
  #over(fault) {
    this.world.cancel(this.#retry);
    this.#listening?.abort();
    this.#drop();
    this.#forget(fault ?? new Fault('cancelled'), false);
    this.#keys = null;
    this.#tell('over', fault);
  }

  /** The page goes: the server ends the session at once. */
  #leave() {
    this.world.cancel(this.#retry);
    this.#previd = '';
    this.#stream?.write(element('close', FRAMING));
    this.#drop();
    this.#forget(new Fault('cancelled'), false);
  }

  /** It may be that the connection is dead, or that another attempt would succeed. @param {number} seconds */
  #doubt(seconds) {
    if (this.state === 'online') this.#ask(seconds);
    else if (seconds < SEEN && this.#stream && this.world.now() - this.#stream.began > 1000) this.#begin();
    else this.retry();
  }

  // logging in

  /** @param {Stream} stream */
  async #login(stream) {
    if (this.#credentials && this.world.now() >= this.#freshUntil) {
      this.#granted ??= this.#credentials().finally(() => { this.#granted = null; });
      this.#take(await this.#granted);
    }
    await stream.opened;
    const [user] = this.#account.split('@');
    const keys = /** @type {Keys} */ (this.#keys);
    const features = await this.#open(stream);
    const inline = features.child('authentication', SASL2);
    const old = features.child('mechanisms', SASL);
    const mechanism = MECHANISMS.find((name) => (inline ?? old)?.elements.some((one) => one.text === name));
    if (!mechanism) throw new Fault('no-mechanism', { over: true });
    const scram = mechanism !== PLAIN && new Scram(user, keys);
    if (scram) keys.password = '';
    else if (!keys.password) throw new Fault('reset', { over: true }); // not what it was: the person decides
    const initial = scram ? scram.first() : base64(UTF8.encode(`\0${user}\0${keys.password}`)); // RFC 4616 2
    this.#freshUntil = 0;
    const [namespace, start] = inline
      ? [SASL2, this.#authenticate(mechanism, initial, inline)]
      : [SASL, element('auth', SASL, { mechanism }, initial)];
    stream.write(start);
    let said = await stream.next();
    if (scram && said.is('challenge', namespace)) {
      stream.write(element('response', namespace, null, await scram.respond(said.text)));
      said = await stream.next();
    }
    if (said.is('failure', namespace)) throw this.#refused(said);
    if (!said.is('success', namespace)) throw new Fault('undefined-condition');
    if (scram) await scram.verify(inline ? said.child('additional-data')?.text ?? '' : said.text);
    const bound = said.child('bound', BIND2);
    const resumed = said.child('resumed', SM);
    if (bound || resumed) {
      this.#enter(stream, resumed, bound?.child('enabled', SM), said.child('authorization-identifier')?.text);
    } else await this.#bind(stream, inline ? await stream.next() : await this.#open(stream));
  }

  /** @param {Stream} stream @returns {Promise<XMLElement>} the features */
  async #open(stream) {
    stream.write(element('open', FRAMING, { to: this.domain, from: this.#account, version: '1.0', 'xml:lang': this.world.language }));
    const header = await stream.next();
    if (!header.is('open', FRAMING)) throw new Fault('undefined-condition');
    const features = await stream.next();
    if (!features.is('features', STREAMS)) throw new Fault('undefined-condition');
    return features;
  }

  #resume() {
    return this.#previd && element('resume', SM, { previd: this.#previd, h: this.#ledger.handled });
  }

  /** @param {string} mechanism @param {string} initial @param {XMLElement} offered */
  #authenticate(mechanism, initial, offered) {
    const able = offered.child('inline');
    return element('authenticate', SASL2, { mechanism },
      element('initial-response', SASL2, null, initial),
      element('user-agent', SASL2, { id: this.#installation() }, element('software', SASL2, null, 'cms door')),
      able?.child('sm', SM) && (this.#resume() || null),
      able?.child('bind', BIND2) && element('bind', BIND2, null,
        element('tag', BIND2, null, 'web'), element('enable', SM, { resume: true })));
  }

  /** This tab; its next session takes the place of the last one (XEP-0386 3.2). */
  #installation() {
    try {
      const { storage, crypto } = this.world;
      let id = storage.getItem('installation');
      if (!id) storage.setItem('installation', (id = crypto.randomUUID()));
      return id;
    } catch {
      return null; // the browser keeps nothing for us
    }
  }

  /** @param {XMLElement} failure */
  #refused(failure) {
    const fault = faultOf(failure, SASL);
    fault.seconds = number(failure.get(`${FAULT} seconds`));
    fault.step = number(failure.get(`${FAULT} step`));
    const passes = fault.word === 'temporary-auth-failure' && (this.#wasOnline || !fault.seconds);
    this.#refusals += passes ? 0 : 1;
    const again = this.#credentials && this.#refusals < MOST_REFUSALS; // they may have been too old
    fault.over = !passes && !again;
    fault.word = failure.get(`${FAULT} name`) || fault.word;
    return fault;
  }

  /** As RFC 6120 7 has it. @param {Stream} stream @param {XMLElement} features */
  async #bind(stream, features) {
    /** @param {XMLElement} what @param {string} namespace of the answer */
    const ask = async (what, namespace) => {
      stream.write(what);
      let said;
      do said = await stream.next(); while (said.namespace !== namespace);
      return said;
    };
    const isManaged = features.child('sm', SM) !== undefined;
    const resume = isManaged && this.#resume();
    const back = resume ? await ask(resume, SM) : undefined;
    if (back?.is('resumed', SM)) {
      this.#enter(stream, back);
      return;
    }
    const bound = await ask(element('iq', CLIENT, { type: 'set', id: 'bind' }, element('bind', BIND)), CLIENT);
    const jid = bound.child('bind', BIND)?.child('jid')?.text;
    if (!jid) throw faultOf(bound.child('error') ?? bound);
    const enabled = isManaged ? await ask(element('enable', SM, { resume: true }), SM) : undefined;
    this.#enter(stream, undefined, enabled, jid);
  }

  /**
   * @param {Stream} stream
   * @param {XMLElement} [resumed]
   * @param {XMLElement} [enabled]
   * @param {string} [jid]
   */
  #enter(stream, resumed, enabled, jid) {
    stream.limit(0);
    this.#ledger.sent = 0;
    this.#isAsking = false;
    if (resumed) this.#acknowledge(resumed);
    else {
      this.#forget(new Fault('session-lost'), true);
      this.#isManaged = enabled?.is('enabled', SM) ?? false;
      const mayResume = /^(true|1)$/.test(enabled?.get('resume') ?? '');
      this.#previd = this.#isManaged && mayResume ? enabled?.get('id') ?? '' : '';
      this.jid = jid ?? '';
    }
    this.#wasOnline = true;
    this.#refusals = 0;
    this.#onlineAt = this.world.now();
    this.#flush();
    this.#tell('online', null, null, resumed !== undefined);
    if (this.#stream === stream) {
      this.#rest();
      stream.listen((said) => this.#hear(said));
    }
  }

  // what was sent, XEP-0198

  /** @param {XMLElement} stanza @param {string} request */
  #send(stanza, request) {
    if (this.state === 'over') throw new Fault('session-lost');
    this.#ledger.add(stanza.toString(), request);
    if (this.state === 'online') this.#flush();
  }

  #flush() {
    const ledger = this.#ledger;
    for (; ledger.sent < ledger.out.length; ledger.sent += 1) {
      const item = ledger.out[ledger.sent];
      item.tried = true;
      this.#stream?.write(item.xml);
    }
    if (!this.#isManaged) ledger.shift(ledger.sent);
    else if (ledger.sent && !this.#isAsking) this.#ask(PATIENCE);
  }

  /** Nothing of the old session is left. @param {Fault} fault @param {boolean} keep requests that were never sent */
  #forget(fault, keep) {
    this.#ledger.restart((item) => keep && !item.tried && (item.request || !this.#wasOnline));
    for (const id of [...this.#requests.keys()]) {
      if (!this.#ledger.out.some((item) => item.request === id)) this.#settle(id)?.reject(fault);
    }
  }

  // life

  /** Ask for an answer. @param {number} seconds after which the connection is dead */
  #ask(seconds) {
    if (this.#isManaged) {
      this.#isAsking = true;
      this.#stream?.write(element('r', SM));
    } else {
      this.#stream?.write(element('iq', CLIENT, { type: 'get', to: this.domain, id: this.nextId() }, element('ping', PING)));
    }
    const { cancel, later } = this.world;
    cancel(this.#patience);
    const stream = this.#stream;
    this.#patience = later(() => stream?.fail(new Fault('timeout')), seconds);
  }

  #quiet() {
    this.world.cancel(this.#patience);
    this.#patience = null;
  }

  #rest() {
    this.world.cancel(this.#idle);
    this.#idle = this.world.later(() => this.#ask(PATIENCE), IDLE);
  }

  /** @param {XMLElement} said */
  #hear(said) {
    this.#quiet();
    this.#rest();
    if (said.namespace === SM) this.#manage(said);
    else if (/^(message|presence|iq)$/.test(said.name)) {
      this.#ledger.handle();
      if (said.namespace === CLIENT) this.#stanza(said);
    }
  }

  /** @param {XMLElement} said */
  #manage(said) {
    if (said.name === 'r') this.#stream?.write(element('a', SM, { h: this.#ledger.handled }));
    else if (said.name === 'a') {
      this.#isAsking = false;
      try {
        this.#acknowledge(said);
        if (this.#ledger.sent) this.#ask(PATIENCE);
      } catch {
        this.#stream?.fail(new Fault('session-lost'));
      }
    }
  }

  /** @param {XMLElement} answer */
  #acknowledge(answer) {
    if (this.#ledger.acknowledge(answer.get('h'))) return;
    this.#previd = ''; // one of both has miscounted: this session does not go on
    throw new Fault('session-lost');
  }

  /** @param {XMLElement} said */
  #stanza(said) {
    const type = said.get('type');
    if (said.name === 'iq' && (type === 'result' || type === 'error')) {
      this.#answered(said);
      return;
    }
    const event = new CustomEvent('stanza', { detail: said, cancelable: true });
    const isTaken = !this.dispatchEvent(event);
    if (said.name !== 'iq' || isTaken || (type !== 'get' && type !== 'set')) return;
    const isPing = type === 'get' && said.child('ping', PING) !== undefined;
    const error = element('error', CLIENT, { type: 'cancel' }, element('service-unavailable', STANZAS));
    const reply = element('iq', CLIENT, {
      type: isPing ? 'result' : 'error', id: said.get('id'), to: said.get('from') || null,
    }, !isPing && error);
    try {
      this.send(reply);
    } catch {
      // Too much waits: whoever asks so much has no answer.
    }
  }

  /** @param {XMLElement} answer */
  #answered(answer) {
    const id = answer.get('id');
    const asked = this.#requests.get(id);
    if (!asked) return;
    const from = answer.get('from');
    const own = ['', this.jid, this.#account, this.domain];
    if (from !== asked.to && !(own.includes(from) && own.includes(asked.to))) return;
    this.#settle(id);
    if (answer.get('type') === 'result') asked.resolve(answer);
    else asked.reject(faultOf(answer.child('error') ?? answer));
  }

  /** @param {string} id */
  #settle(id) {
    const asked = this.#requests.get(id);
    this.#requests.delete(id);
    this.world.cancel(asked?.timer);
    return asked;
  }
}
