/**
 * An XMPP server over WebSockets, as far as a page needs one: SCRAM-SHA-256 and PLAIN by SASL2 or RFC 6120, Bind 2,
 * stream management with resumption, and rooms.
 */

import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';

import { element } from '../../cms/door/static/session.js';

const FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing';
const STREAMS = 'http://etherx.jabber.org/streams';
const STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas';
const SASL = 'urn:ietf:params:xml:ns:xmpp-sasl';
const SASL2 = 'urn:xmpp:sasl:2';
const BIND = 'urn:ietf:params:xml:ns:xmpp-bind';
const BIND2 = 'urn:xmpp:bind:0';
const SM = 'urn:xmpp:sm:3';
const CLIENT = 'jabber:client';
const MUC = 'http://jabber.org/protocol/muc';
export const DOMAIN = 'meet.example.com';
export const WAY = 0.01; // seconds from one end to the other
export const ROOM = 'team@cb1.meet.example.com';

const hmac = (key, text) => createHmac('sha256', key).update(text).digest();
const sha = (data) => createHash('sha256').update(data).digest();

/** A session, as the server knows it. */
class Place {
  constructor(jid, start) {
    this.jid = jid;
    this.previd = `id-of-${jid}`;
    this.handled = start; // the client's
    this.sent = start; // ours, numbered
    this.kept = []; // [number, xml], not acknowledged
    this.socket = null;
  }
}

export class Server {
  /**
   * @param {object} [options]
   * @param {boolean} [options.inline] SASL2
   * @param {boolean} [options.manages] XEP-0198
   * @param {string[]} [options.offered] mechanisms
   * @param {Record<string, string>} [options.users]
   * @param {number} [options.start] of the counters, for a wrap
   */
  constructor({ inline = true, manages = true, offered = ['SCRAM-SHA-256'], users = { alice: 'secret' }, start = 0 } = {}) {
    Object.assign(this, { inline, manages, offered, users, start });
    this.isUp = true;
    this.roundTrips = 0;
    this.logins = [];
    this.places = new Map();
    this.streams = new Map();
    this.rooms = new Map();
    this.number = 0;
    this.iterations = 4096;
    this.answers = () => undefined; // a test's, before all others
  }

  // the socket

  /** @param {() => void} call @param {number} [times] what takes so often the way there */
  after(call, times = 1) {
    this.world.later(call, times * WAY);
  }

  connected(socket) {
    if (!this.isUp) this.after(() => socket.drop(), 2);
    else this.after(() => socket.isDeaf || socket.open(), 6); // TCP, TLS 1.3, the upgrade
  }

  /** The client closed it, after all that it sent. */
  left(socket) {
    this.after(() => this.closed(socket));
  }

  closed(socket) {
    const stream = this.streams.get(socket);
    this.streams.delete(socket);
    if (stream?.place?.socket === socket) stream.place.socket = null;
  }

  /** A connection is gone, and nothing that was on its way arrives. */
  cut(socket) {
    socket.isDeaf = true;
    this.closed(socket);
  }

  say(socket, what) {
    this.after(() => socket.say(what));
  }

  heard(socket, said, raw) {
    this.after(() => socket.isDeaf || this.take(socket, said, raw));
  }

  take(socket, said, raw) {
    const stream = this.streams.get(socket) ?? {};
    this.streams.set(socket, stream);
    if (this.answers(said, socket, stream)) return;
    if (said.is('open', FRAMING)) this.open(socket, stream);
    else if (said.is('close', FRAMING)) this.leave(stream.place);
    else if (said.namespace === SASL2 || said.namespace === SASL) this.login(socket, stream, said);
    else if (said.is('resume', SM)) this.say(socket, this.resume(stream, said, socket, true));
    else if (said.is('enable', SM)) {
      stream.place.isManaged = true;
      this.say(socket, this.enabled(stream.place));
    } else if (said.is('r', SM)) this.say(socket, element('a', SM, { h: stream.place.handled }));
    else if (said.is('a', SM)) this.acknowledge(stream.place, Number(said.get('h')));
    else if (said.child('bind', BIND)) this.bindOld(socket, stream, said);
    else if (stream.place) {
      stream.place.handled = (stream.place.handled + 1) >>> 0;
      this.stanza(stream.place, said, raw);
    }
  }

  // logging in

  open(socket, stream) {
    this.say(socket, element('open', FRAMING, { from: DOMAIN, id: 'x', version: '1.0' }));
    const features = element('features', STREAMS);
    if (stream.user) {
      features.children.push(element('bind', BIND), ...(this.manages ? [element('sm', SM)] : []));
    } else {
      const named = (namespace) => this.offered.map((one) => element('mechanism', namespace, null, one));
      features.children.push(element('mechanisms', SASL, null, ...named(SASL)));
      if (this.inline) {
        features.children.push(element('authentication', SASL2, null, ...named(SASL2),
          element('inline', SASL2, null, element('sm', SM), element('bind', BIND2))));
      }
    }
    this.say(socket, features);
  }

  login(socket, stream, said) {
    const payload = Buffer.from((said.child('initial-response') ?? said).text, 'base64').toString();
    if (said.name === 'response') {
      const { bare, first, password, salt } = stream.scram;
      const [, proven] = /^(.*),p=/.exec(payload);
      const salted = pbkdf2Sync(password, salt, this.iterations, 32, 'sha256');
      const key = hmac(salted, 'Client Key');
      const signed = `${bare},${first},${proven}`;
      const proof = key.map((byte, at) => byte ^ hmac(sha(key), signed)[at]);
      if (payload !== `${proven},p=${Buffer.from(proof).toString('base64')}`) {
        this.say(socket, element('failure', said.namespace, null, element('not-authorized', SASL)));
        return;
      }
      const data = Buffer.from(`v=${hmac(hmac(salted, 'Server Key'), signed).toString('base64')}`).toString('base64');
      stream.user = stream.scram.user;
      this.logins.push(stream.user);
      this.success(socket, stream, data);
      return;
    }
    stream.asked = said;
    if (said.get('mechanism') === 'PLAIN') {
      const [, user, password] = payload.split('\0');
      stream.user = user;
      if (this.users[user] === password) this.success(socket, stream);
      else this.say(socket, element('failure', said.namespace, null, element('not-authorized', SASL)));
      return;
    }
    const [, bare, user, nonce] = /^n,,(n=(.*),r=(.*))$/.exec(payload);
    const salt = Buffer.from('salt');
    const first = `r=${nonce}Server,s=${salt.toString('base64')},i=${this.iterations}`;
    stream.scram = { bare, first, salt, user, password: this.users[user] ?? '\0' };
    this.say(socket, element('challenge', said.namespace, null, Buffer.from(first).toString('base64')));
  }

  success(socket, stream, data) {
    const { asked } = stream;
    if (asked.namespace === SASL) {
      this.say(socket, element('success', SASL, null, data));
      return;
    }
    const more = [];
    const resume = asked.child('resume', SM);
    const resumed = resume && this.resume(stream, resume, socket, false);
    if (resumed) more.push(resumed);
    if (!resumed?.is('resumed', SM)) {
      const place = this.bind(stream, socket, asked.child('user-agent')?.get('id'));
      place.isManaged = this.manages;
      more.push(element('authorization-identifier', SASL2, null, place.jid),
        element('bound', BIND2, null, ...(this.manages ? [this.enabled(place)] : [])));
    }
    this.say(socket, element('success', SASL2, null, data !== undefined && element('additional-data', SASL2, null, data), ...more));
    if (resumed?.is('resumed', SM)) this.sendAgain(stream.place);
    else this.say(socket, element('features', STREAMS));
  }

  bind(stream, socket, installation = null) {
    for (const place of this.places.values()) {
      if (installation && place.installation === installation && place.user === stream.user) {
        if (place.socket) {
          this.say(place.socket, `<stream:error xmlns:stream='${STREAMS}'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>`);
        }
        this.leave(place);
      }
    }
    this.number += 1;
    const place = new Place(`${stream.user}@${DOMAIN}/web.${this.number}`, this.start);
    Object.assign(place, { installation, user: stream.user, socket });
    this.places.set(place.jid, place);
    stream.place = place;
    return place;
  }

  bindOld(socket, stream, said) {
    const place = this.bind(stream, socket);
    const jid = element('jid', BIND, null, place.jid);
    this.say(socket, element('iq', CLIENT, { type: 'result', id: said.get('id') }, element('bind', BIND, null, jid)));
  }

  enabled(place) {
    return element('enabled', SM, { id: place.previd, resume: true });
  }

  resume(stream, said, socket, goesOn) {
    const place = [...this.places.values()].find(({ previd, user }) => previd === said.get('previd') && user === stream.user);
    if (!place) return element('failed', SM, null, element('item-not-found', STANZAS));
    if (place.socket) this.cut(place.socket);
    place.socket = socket;
    stream.place = place;
    this.acknowledge(place, Number(said.get('h')));
    if (goesOn) queueMicrotask(() => this.sendAgain(place));
    return element('resumed', SM, { previd: place.previd, h: place.handled });
  }

  acknowledge(place, handled) {
    const ahead = (number) => ((number - handled) >>> 0) - 1 < 2 ** 31 && number !== handled;
    place.kept = place.kept.filter(([number]) => ahead(number));
  }

  sendAgain(place) {
    for (const [, xml] of place.kept) this.say(place.socket, xml);
    this.say(place.socket, element('r', SM));
  }

  // stanzas

  deliver(place, what) {
    const xml = String(what);
    place.sent = (place.sent + 1) >>> 0;
    if (place.isManaged) place.kept.push([place.sent, xml]);
    if (!place.socket) return;
    this.say(place.socket, xml);
    if (place.isManaged && place.kept.length % 5 === 0) this.say(place.socket, element('r', SM));
  }

  leave(place) {
    if (!place) return;
    this.places.delete(place.jid);
    for (const room of this.rooms.values()) room.gone(place);
  }

  stanza(place, said, raw) {
    const [bare, nick] = said.get('to').split(/\/(.*)/);
    const room = this.rooms.get(bare);
    if (room) room.take(place, said, nick ?? '', raw);
    else if (said.name === 'iq' && said.get('type') !== 'result' && said.get('type') !== 'error') {
      const isPing = said.child('ping', 'urn:xmpp:ping');
      this.deliver(place, element('iq', CLIENT, { type: isPing ? 'result' : 'error', id: said.get('id'), from: said.get('to') || null, to: place.jid },
        !isPing && element('error', CLIENT, { type: 'cancel' }, element('service-unavailable', STANZAS))));
    }
  }
}

/** A room; its occupants are sessions of the server. */
export class Hall {
  constructor(server, jid = ROOM) {
    this.server = server;
    this.jid = jid;
    this.inside = new Map(); // nick: {place, presence}
    this.history = [];
    this.number = 0;
    this.said = [];
    server.rooms.set(jid, this);
  }

  nickOf(place) {
    return [...this.inside].find(([, one]) => one.place === place)?.[0];
  }

  refuse(place, said, condition, type = 'cancel') {
    this.server.deliver(place, element(said.name, CLIENT, { type: 'error', id: said.get('id') || null, from: said.get('to'), to: place.jid },
      element('error', CLIENT, { type }, element(condition, STANZAS))));
  }

  presence(nick, { place, more }, codes = [], type = null, item = {}) {
    return element('presence', CLIENT, { from: `${this.jid}/${nick}`, type },
      element('occupant-id', 'urn:xmpp:occupant-id:0', { id: `o-${place.user}` }), ...more,
      element('x', `${MUC}#user`, null, element('item', `${MUC}#user`, { affiliation: 'none', role: type ? 'none' : 'participant', ...item }),
        ...codes.map((code) => element('status', `${MUC}#user`, { code }))));
  }

  tell(nick, one, codes, type, item) {
    for (const [name, { place }] of this.inside) {
      if (name !== nick) this.server.deliver(place, this.presence(nick, one, codes.filter((code) => code !== 110), type, item));
    }
    this.server.deliver(one.place, this.presence(nick, one, [...codes, 110], type, item));
  }

  gone(place, codes = [], item = {}) {
    const nick = this.nickOf(place);
    const one = this.inside.get(nick);
    if (!one) return;
    this.tell(nick, one, codes, 'unavailable', item);
    this.inside.delete(nick);
  }

  take(place, said, nick, raw) {
    const now = this.nickOf(place);
    if (said.name === 'presence' && said.get('type') === 'unavailable') this.gone(place);
    else if (said.name === 'presence') this.enter(place, said, nick, now);
    else if (now === undefined) this.refuse(place, said, 'not-acceptable');
    else if (said.name === 'message') this.say(now, said, place);
    else this.server.deliver(place, element('iq', CLIENT, { type: 'result', id: said.get('id'), from: said.get('to'), to: place.jid }));
  }

  enter(place, said, nick, now) {
    const more = said.elements.filter(({ name }) => name === 'state');
    const one = { place, more };
    if (this.inside.get(nick) && now !== nick) {
      this.refuse(place, said, 'conflict');
      return;
    }
    for (const [name, other] of this.inside) if (name !== nick) this.server.deliver(place, this.presence(name, other));
    this.inside.set(nick, one);
    this.tell(nick, one, [], null);
    if (!said.child('x', MUC)) return;
    for (const xml of this.history) this.server.deliver(place, xml);
    this.server.deliver(place, element('message', CLIENT, { type: 'groupchat', from: this.jid }, element('subject', CLIENT, null, 'the subject')));
  }

  say(nick, said, place) {
    this.number += 1;
    const text = said.child('body').text;
    this.said.push(text);
    const message = element('message', CLIENT, { type: 'groupchat', id: said.get('id') || null, from: `${this.jid}/${nick}` },
      element('stanza-id', 'urn:xmpp:sid:0', { by: this.jid, id: this.number }),
      element('occupant-id', 'urn:xmpp:occupant-id:0', { id: `o-${place.user}` }),
      element('body', CLIENT, null, text));
    for (const { place: other } of this.inside.values()) this.server.deliver(other, message);
    this.history.push(element(message.name, CLIENT, message.attributes, ...message.children,
      element('delay', 'urn:xmpp:delay', { stamp: '2026-11-28T22:00:00Z' })));
    this.history = this.history.slice(-50);
  }
}
