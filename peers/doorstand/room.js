// In place of the room of cms/door/static.

import { Fault } from './session.js';

const REFUSED = { full: 'service-unavailable', banned: 'forbidden', members: 'registration-required',
  locked: 'not-authorized', taken: 'conflict' };

export class Room extends EventTarget {
  occupants = new Map();
  messages = [];
  unheard = [];
  subject = '';
  state = 'out';

  constructor(session, { jid, nick }) {
    super();
    Object.assign(this, { session, jid, nick });
    fake.rooms.push(this);
  }

  async enter() {
    const word = REFUSED[this.jid.split('@')[0]];
    if (word) throw new Fault(word);
    this.state = 'in';
    const role = this.jid.startsWith('own') ? 'moderator' : 'participant';
    this.#put({ nick: this.nick, role, isSelf: true });
  }

  #put({ nick, role = 'participant', hand = false, reconnecting = false, isSelf = false }) {
    const one = { id: nick, nick, role, affiliation: 'none', hand, reconnecting, isSelf };
    this.occupants.set(one.id, one);
    return one;
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  come(...people) {
    const known = people.map(({ nick }) => this.occupants.has(nick));
    const all = people.map((one) => this.#put(one));
    this.tell('occupants', { joined: all.filter((_, at) => !known[at]), left: [],
      changed: all.filter((_, at) => known[at]) });
  }

  go(nick) {
    const one = this.occupants.get(nick);
    this.occupants.delete(nick);
    this.tell('occupants', { joined: [], left: [one], changed: [] });
  }

  hear(nick, text, { mine = false, delayed = false, at = new Date() } = {}) {
    const message = { id: String(this.messages.length), nick, occupant: nick, text, at, mine, delayed };
    this.messages.push(message);
    this.tell('message', message);
  }

  topic(text) {
    this.subject = text;
    this.tell('subject');
  }

  throwOut(word) {
    this.state = 'out';
    this.tell('left', { why: new Fault(word) });
  }

  async say(text) {
    if (fake.hold) await new Promise(() => {});
    if (text === 'too much') throw new Fault('resource-constraint');
    this.hear(this.nick, text, { mine: true });
  }

  setState({ hand }) {
    const one = { ...this.occupants.get(this.nick), hand };
    this.occupants.set(this.nick, one);
    this.tell('occupants', { joined: [], left: [], changed: [one] });
  }

  leave() {
    this.state = 'out';
  }

  async kick(nick) {
    if (nick === 'untouchable') throw new Fault('not-allowed');
    this.go(nick);
  }
}

export async function spaces() {
  return fake.spaces ?? [
    { jid: 'own@cb1.meet.example.com', name: 'Product team', callId: '204918374' },
    { jid: 'board@cb1.meet.example.com', name: 'Board', callId: '771203945' },
    { jid: 'full@cb1.meet.example.com', name: 'All hands', callId: '118820034' },
  ];
}

export async function find(session, callId) {
  if (callId === '404') throw new Fault('item-not-found');
  return { jid: `${callId === '401' ? 'locked' : 'own'}@cb1.meet.example.com`, name: 'Product team' };
}
