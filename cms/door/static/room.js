/**
 * A room (XEP-0045) in a page: who is in it, what was said, and the return into it.
 */

import { CLIENT, Fault, element, faultOf } from './session.js';

/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('./session.js').XMLElement} XMLElement */
/** @typedef {{text: string, stanza: XMLElement, resolve: () => void, reject: (fault: Fault) => void}} Said */

const MUC = 'http://jabber.org/protocol/muc';
const USER = `${MUC}#user`;
const ADMIN = `${MUC}#admin`;
const ITEMS = 'http://jabber.org/protocol/disco#items';
const MEETING = 'urn:x-cms:meeting:1';
const JOIN = 'urn:x-cms:join:1';

const HISTORY = 50; // messages that are asked for
const MOST_MESSAGES = 1000;
const MOST_WAITING = 100; // messages that were not heard yet
const MOST_OCCUPANTS = 2000;
const MOST_NAME = 256; // characters
const MOST_TEXT = 32_768;
const MOST_SPACES = 1000;
const ENTERING = 15; // seconds, as are these
const CHECK = 15;
const DELAYS = [0, 1, 2, 4, 5];
const CONFLICTS = 3; // until another nickname is taken

// Why somebody had to leave (XEP-0045 15.6).
/** @type {Record<string, string>} */
const REASONS = { 301: 'banned', 307: 'kicked', 321: 'members-only', 322: 'members-only' };
// What says that a room cannot be reached now, and nothing of whether one is in it (XEP-0410 3).
const UNREACHABLE = new Set(['remote-server-not-found', 'remote-server-timeout', 'recipient-unavailable',
  'timeout', 'session-lost', 'internal-server-error', 'resource-constraint', 'undefined-condition']);
const STILL_IN = new Set(['service-unavailable', 'feature-not-implemented', 'item-not-found']);
const FLAGS = /** @type {const} */ (['hand', 'muted', 'camera', 'screen']);

/**
 * @typedef {object} Occupant
 * @property {string} id its key in `occupants`: XEP-0421, with the nickname if the same person is in the room twice
 * @property {string} nick
 * @property {string} role
 * @property {string} affiliation
 * @property {boolean} hand
 * @property {boolean} muted
 * @property {boolean} camera
 * @property {boolean} screen
 * @property {boolean} reconnecting it has no connection now
 * @property {boolean} isSelf
 */

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {string} nick
 * @property {string} occupant the id of its occupant; empty if it is not known
 * @property {string} text
 * @property {Date} at
 * @property {boolean} mine
 * @property {boolean} delayed it was said before one entered
 */

/**
 * A room. All texts are as others sent them, cut to a length: show them as text only.
 *
 * Events (CustomEvent):
 * - `occupants` {joined: Occupant[], left: Occupant[], changed: Occupant[]}
 * - `message` a Message
 * - `subject`
 * - `away` {why: Fault, nextTry: number | null}: not in the room now, or it cannot be reached; tried again
 * - `back`: in it again
 * - `left` {why: Fault}: for good; `kicked`, `banned`, `members-only`, `gone`, or why it cannot be entered again
 */
export class Room extends EventTarget {
  /** @type {Map<string, Occupant>} */ occupants = new Map();
  subject = '';
  /** @type {Message[]} */ messages = [];
  /** @type {Said[]} */ unheard = []; // what was said, and was not heard when this was left
  /** @type {'out' | 'entering' | 'in' | 'away'} */ state = 'out';

  /** @type {Session} */ #session;
  #password;
  #wanted = false;
  #tries = 0;
  #conflicts = 0;
  #heardAt = 0;
  /** @type {unknown} */ #timer = null;
  /** @type {Map<string, Occupant>} */ #named = new Map();
  /** @type {Set<string> | null} */ #seen = null; // nicknames, while it is entered
  /** @type {Set<string>} */ #known = new Set(); // ids of messages
  /** @type {Map<string, Said>} */
  #said = new Map(); // and not heard yet
  /** @type {string[] | null} */ #unsaid = null; // ids of those that are said later: it is not known which the room has, or it refused some
  #self = ''; // the occupant id
  /** @type {{resolve: () => void, reject: (fault: Fault) => void} | null} */ #entering = null;
  /** @type {Record<string, boolean>} */ #flags = {};
  #listening = new AbortController();

  /**
   * @param {Session} session
   * @param {{jid: string, nick: string, password?: string}} settings of the room
   */
  constructor(session, { jid, nick, password = '' }) {
    super();
    this.#session = session;
    this.jid = jid;
    this.nick = nick;
    this.#password = password;
  }

  /** @returns {Promise<void>} rejects with a Fault */
  enter() {
    return new Promise((resolve, reject) => {
      this.#entering = { resolve, reject };
      this.#wanted = true;
      const { signal } = this.#listening;
      /** @param {string} type @param {(event: any) => void} call */
      const on = (type, call) => this.#session.addEventListener(type, call, { signal });
      on('stanza', (event) => this.#stanza(event.detail));
      on('state', ({ detail }) => this.#sessionIs(detail));
      if (this.#session.state === 'over') this.#leftFor(new Fault('session-lost'));
      else if (this.#session.state === 'online') this.#ask();
    });
  }

  /**
   * Say something to all.
   * @param {string} text
   * @returns {Promise<void>} it was heard; rejects with a Fault
   */
  say(text) {
    const said = new Promise((resolve, reject) => {
      const id = this.#session.nextId();
      const stanza = element('message', CLIENT, { type: 'groupchat', to: this.jid, id }, element('body', CLIENT, null, text));
      if (!this.#wanted || this.#said.size >= MOST_WAITING) throw new Fault(this.#wanted ? 'too-much-waits' : 'not-acceptable');
      if (this.#unsaid) this.#unsaid.push(id);
      else if (this.state === 'in') this.#session.send(stanza);
      this.#said.set(id, { text, stanza, resolve: () => resolve(undefined), reject });
    });
    said.catch(() => {}); // whoever does not ask is not told
    return said;
  }

  /** What others see of oneself. @param {{hand?: boolean, muted?: boolean, camera?: boolean, screen?: boolean}} flags */
  setState(flags) {
    Object.assign(this.#flags, flags);
    if (this.state === 'in') this.#session.send(this.#presence());
  }

  /** Go, for good. */
  leave() {
    if (this.state !== 'out') this.#send(element('presence', CLIENT, { type: 'unavailable', to: this.#own() }));
    this.#end(new Fault('cancelled'));
  }

  /** Moderators: somebody has to leave. @param {string} nick @param {string} [reason] */
  async kick(nick, reason = '') {
    const item = element('item', ADMIN, { nick, role: 'none' }, reason && element('reason', ADMIN, null, reason));
    await this.#session.iq(element('iq', CLIENT, { type: 'set', to: this.jid }, element('query', ADMIN, null, item)));
  }

  #own() {
    return `${this.jid}/${this.nick}`;
  }

  /** @param {string} type @param {unknown} [detail] */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {XMLElement} stanza */
  #send(stanza) {
    try {
      this.#session.send(stanza);
    } catch {
      // the session is over, or says by its state that nothing leaves
    }
  }

  /** @param {...XMLElement} more */
  #presence(...more) {
    return element('presence', CLIENT, { to: this.#own() }, ...more, element('state', MEETING, this.#flags));
  }

  // entering, and entering again

  #ask() {
    this.#wait(ENTERING, () => this.#notIn(new Fault('timeout')));
    this.state = 'entering';
    this.#seen = new Set();
    this.#send(this.#presence(element('x', MUC, null, element('history', MUC, { maxstanzas: HISTORY }),
      this.#password && element('password', MUC, null, this.#password))));
  }

  /** @param {number} seconds @param {() => void} call */
  #wait(seconds, call) {
    const { later, cancel } = this.#session.world;
    cancel(this.#timer);
    this.#timer = later(call, seconds);
  }

  #isIn() {
    const isFirst = this.#entering !== null;
    const left = [...this.#named.values()].filter(({ nick }) => !this.#seen?.has(nick));
    for (const { nick } of left) this.#remove(nick);
    this.#seen = null;
    this.#unsaid = [...this.#said.keys()];
    this.state = 'in';
    this.#tries = this.#conflicts = 0;
    this.#rest();
    this.#tell('occupants', { joined: isFirst ? [...this.#named.values()] : [], left, changed: isFirst ? [] : [...this.#named.values()] });
    this.#entering?.resolve();
    this.#entering = null;
    if (!isFirst) this.#tell('back');
  }

  /** @param {Fault} why */
  #notIn(why) {
    const passes = why.type === 'wait' || UNREACHABLE.has(why.word);
    if (this.#entering || !(passes || why.word === 'conflict')) {
      this.#leftFor(why);
      return;
    }
    if (why.word === 'conflict' && ++this.#conflicts >= CONFLICTS) {
      this.nick = `${this.nick.replace(/ \d+$/, '')} ${this.#conflicts - CONFLICTS + 2}`;
    }
    this.#away(why);
  }

  /** Try again later. @param {Fault} why */
  #away(why) {
    const delay = DELAYS[Math.min(this.#tries, DELAYS.length - 1)] * (0.8 + this.#session.world.random() * 0.4);
    this.#tries += 1;
    this.state = 'away';
    const seconds = Math.max(delay, why.seconds);
    this.#wait(seconds, () => this.#session.state === 'online' && this.#ask());
    this.#tell('away', { why, nextTry: this.#session.world.now() + seconds * 1000 });
  }

  /** @param {Fault} why */
  #leftFor(why) {
    const isFirst = this.#entering !== null;
    this.#end(why);
    if (!isFirst) this.#tell('left', { why });
  }

  /** @param {Fault} why */
  #end(why) {
    this.state = 'out';
    this.#wanted = false;
    this.#session.world.cancel(this.#timer);
    this.#listening.abort();
    this.#listening = new AbortController();
    this.#entering?.reject(why);
    this.#entering = null;
    this.unheard = [...this.#said.values()];
    for (const { reject } of this.unheard) reject(why);
    this.#said.clear();
    this.#unsaid = null;
  }

  /** @param {import('./session.js').StateDetail} detail */
  #sessionIs({ state, fault, resumed }) {
    if (state === 'over') this.#leftFor(fault ?? new Fault('cancelled'));
    else if (state !== 'online') this.#session.world.cancel(this.#timer);
    else if (this.state === 'in' && resumed) this.#check();
    else this.#ask();
  }

  // whether one is in it, XEP-0410

  #rest() {
    this.#heardAt = this.#session.world.now();
    this.#wait(CHECK, () => this.#check());
  }

  async #check() {
    const began = this.#session.world.now();
    const ping = element('iq', CLIENT, { type: 'get', to: this.#own() }, element('ping', 'urn:xmpp:ping'));
    this.#session.world.cancel(this.#timer);
    try {
      await this.#session.iq(ping);
    } catch (problem) {
      const why = problem instanceof Fault ? problem : new Fault('undefined-condition');
      if (this.state !== 'in' || why.word === 'session-lost') return;
      if ((why.type === 'wait' || !STILL_IN.has(why.word)) && this.#heardAt <= began) {
        this.#tries = 0;
        this.#away(why);
        return;
      }
    }
    if (this.state === 'in') {
      this.#rest();
      this.#sayAgain();
    }
  }

  // what comes

  /** @param {XMLElement} stanza */
  #stanza(stanza) {
    const from = stanza.get('from');
    const nick = from.slice(this.jid.length + 1);
    if ((from !== this.jid && !from.startsWith(`${this.jid}/`)) || nick.length > MOST_NAME) return;
    if (stanza.name === 'presence') this.#presenceOf(stanza, nick);
    else if (stanza.name === 'message') this.#message(stanza, nick);
    if (this.state === 'in') this.#heardAt = this.#session.world.now();
  }

  /** @param {XMLElement} stanza @param {string} nick */
  #presenceOf(stanza, nick) {
    const type = stanza.get('type');
    if (type === 'error') {
      if (this.state === 'entering') this.#notIn(faultOf(stanza.child('error') ?? stanza));
      return;
    }
    if (!nick || (type && type !== 'unavailable')) return;
    const about = stanza.child('x', USER);
    const codes = (about?.elements ?? []).filter(({ name }) => name === 'status').map((status) => status.get('code'));
    const isSelf = codes.includes('110') || (nick === this.nick && this.state === 'in');
    const item = about?.child('item');
    if (type) this.#gone(nick, isSelf, codes, about, item);
    else this.#here(stanza, nick, isSelf, item);
  }

  /** @param {XMLElement} stanza @param {string} nick @param {boolean} isSelf @param {XMLElement} [item] */
  #here(stanza, nick, isSelf, item) {
    const id = idOf(stanza) || nick;
    let before = this.#named.get(nick);
    let left;
    if (before && before.id !== id && !before.id.startsWith(`${id}/`)) {
      left = this.#remove(nick); // somebody else has this nickname now
      before = undefined;
    }
    if (!before && this.#named.size >= MOST_OCCUPANTS) return;
    const shown = stanza.child('state', MEETING);
    const occupant = {
      id: before?.id ?? (this.occupants.has(id) ? `${id}/${nick}` : id),
      nick,
      role: item?.get('role').slice(0, MOST_NAME) ?? '',
      affiliation: item?.get('affiliation').slice(0, MOST_NAME) ?? '',
      isSelf,
      reconnecting: stanza.child('reconnecting', MEETING) !== undefined,
      .../** @type {Record<typeof FLAGS[number], boolean>} */ (
        Object.fromEntries(FLAGS.map((flag) => [flag, shown?.get(flag) === 'true']))),
    };
    this.#named.set(nick, occupant);
    this.occupants.set(occupant.id, occupant);
    this.#seen?.add(nick);
    if (isSelf) {
      this.nick = nick;
      this.#self = id;
    }
    if (this.state === 'entering' && isSelf) this.#isIn();
    else if (this.state === 'in') {
      this.#tell('occupants', { joined: before ? [] : [occupant], left: left ? [left] : [], changed: before ? [occupant] : [] });
    }
  }

  /** @param {string} nick */
  #remove(nick) {
    const occupant = this.#named.get(nick);
    this.#named.delete(nick);
    if (occupant) this.occupants.delete(occupant.id);
    return occupant;
  }

  /**
   * @param {string} nick
   * @param {boolean} isSelf
   * @param {string[]} codes
   * @param {XMLElement} [about]
   * @param {XMLElement} [item]
   */
  #gone(nick, isSelf, codes, about, item) {
    const occupant = this.#named.get(nick);
    const next = item?.get('nick') ?? '';
    if (codes.includes('303') && occupant && next && next.length <= MOST_NAME) {
      const renamed = { ...occupant, nick: next }; // XEP-0045 7.6: its new presence follows
      this.#named.delete(nick);
      this.#named.set(next, renamed);
      this.occupants.set(occupant.id, renamed);
      if (isSelf) this.nick = next;
      return;
    }
    this.#remove(nick);
    this.#seen?.delete(nick);
    if (occupant && this.state === 'in') this.#tell('occupants', { joined: [], left: [occupant], changed: [] });
    if (!isSelf || this.state === 'entering') return;
    const reason = codes.find((code) => REASONS[code]);
    if (reason) this.#leftFor(new Fault(REASONS[reason]));
    else if (about?.child('destroy')) this.#leftFor(new Fault('gone'));
    else this.#away(new Fault('system-shutdown'));
  }

  /** @param {XMLElement} stanza @param {string} nick */
  #message(stanza, nick) {
    const type = stanza.get('type');
    if (type === 'error') {
      const id = stanza.get('id');
      const sent = this.#said.get(id);
      const why = faultOf(stanza.child('error') ?? stanza);
      if (!sent || this.state !== 'in') return;
      // One is not in it any more, it is not there, or has too much to do: said again when one is, before what follows.
      if (why.word === 'not-acceptable' || UNREACHABLE.has(why.word)) {
        (this.#unsaid ??= []).push(id);
        this.#wait(why.word === 'not-acceptable' ? 0 : 1 + this.#session.world.random(), () => this.#check());
      } else {
        this.#said.delete(id);
        sent.reject(why);
      }
      return;
    }
    if (type !== 'groupchat') return;
    const body = stanza.child('body');
    const subject = stanza.child('subject');
    if (subject && !body && !stanza.child('thread')) {
      this.subject = subject.text.slice(0, MOST_TEXT);
      this.#tell('subject');
      this.#sayAgain();
    } else if (body && nick) this.#heard(stanza, nick, body.text.slice(0, MOST_TEXT));
  }

  /** @param {XMLElement} stanza @param {string} nick @param {string} text */
  #heard(stanza, nick, text) {
    const by = idOf(stanza);
    const own = stanza.get('id').slice(0, MOST_NAME);
    const given = stanza.elements.find((one) => one.is('stanza-id', 'urn:xmpp:sid:0') && one.get('by') === this.jid);
    const keys = [given && `s ${given.get('id').slice(0, MOST_NAME)}`, own && `o ${by || nick} ${own}`];
    const delay = stanza.child('delay', 'urn:xmpp:delay');
    const at = new Date(delay?.get('stamp') || this.#session.world.now());
    const mine = by ? by === this.#self : nick === this.nick;
    if (mine) {
      this.#said.get(own)?.resolve();
      this.#said.delete(own);
    }
    if (keys.some((key) => key && this.#known.has(key))) return;
    for (const key of keys) if (key) this.#known.add(key);
    for (const key of this.#known) {
      if (this.#known.size <= 4 * MOST_MESSAGES) break;
      this.#known.delete(key);
    }
    const message = {
      id: keys.find((key) => key) || this.#session.nextId(), nick, occupant: by, text, mine,
      at: Number.isNaN(at.getTime()) ? new Date(this.#session.world.now()) : at, delayed: delay !== undefined,
    };
    this.messages.push(message);
    if (this.messages.length > MOST_MESSAGES) this.messages.shift();
    this.#tell('message', message);
  }

  /** What of ours came back, or is not among all that was said and has been heard now (XEP-0045 7.2.15). */
  #sayAgain() {
    const unsaid = this.#unsaid ?? [];
    this.#unsaid = null;
    for (const id of unsaid) {
      const said = this.#said.get(id);
      if (said) this.#send(said.stanza);
    }
  }
}

/** @param {XMLElement} stanza of an occupant */
function idOf(stanza) {
  return stanza.child('occupant-id', 'urn:xmpp:occupant-id:0')?.get('id').slice(0, MOST_NAME) ?? '';
}

/**
 * The spaces that the user of a session may enter.
 * @param {Session} session
 * @returns {Promise<{jid: string, name: string, callId: string}[]>}
 */
export async function spaces(session) {
  const places = await items(session, session.domain);
  const found = await Promise.all(places.filter(({ jid }) => !jid.includes('@')).map(async ({ jid }) => {
    try {
      return await items(session, jid);
    } catch {
      return []; // another component, or one that is gone
    }
  }));
  return found.flat().filter(({ jid }) => jid.includes('@')).slice(0, MOST_SPACES);
}

/** @param {Session} session @param {string} to */
async function items(session, to) {
  const answer = await session.iq(element('iq', CLIENT, { type: 'get', to }, element('query', ITEMS)));
  return (answer.child('query', ITEMS)?.elements ?? []).filter(({ name }) => name === 'item').slice(0, MOST_SPACES).map((item) => ({
    jid: item.get('jid'),
    name: item.get('name').slice(0, MOST_NAME) || item.get('jid'),
    callId: (item.get(`${JOIN} callId`) || item.get('callId')).slice(0, MOST_NAME),
  }));
}

/**
 * The space of a call ID.
 * @param {Session} session
 * @param {string} callId
 * @returns {Promise<{jid: string, name: string}>} rejects with a Fault; `item-not-found`: there is none
 */
export async function find(session, callId) {
  let why = new Fault('item-not-found');
  for (const { jid } of await items(session, session.domain)) {
    if (jid.includes('@')) continue;
    try {
      const answer = await session.iq(element('iq', CLIENT, { type: 'get', to: jid }, element('find', JOIN, { callId })));
      const space = answer.child('space', JOIN);
      if (space) return { jid: space.get('jid'), name: space.get('name').slice(0, MOST_NAME) };
    } catch (problem) {
      if (problem instanceof Fault && problem.word !== 'feature-not-implemented') why = problem;
    }
  }
  throw why;
}
