// In place of the session of cms/door/static: no server, a test says what happens (`fake`).

/** What a test has in its hands. */
globalThis.fake = { sessions: [], rooms: [], hold: false };

export class Fault extends Error {
  constructor(word, { seconds = 0, step = 0, over = false } = {}) {
    super(word);
    Object.assign(this, { word, seconds, step, over });
  }
}

export class Session extends EventTarget {
  state = 'new';

  constructor({ jid = '', password = '', credentials = null }) {
    super();
    Object.assign(this, { jid, password, credentials });
    fake.sessions.push(this);
  }

  async start() {
    this.tell('connecting');
    try {
      if (this.credentials) Object.assign(this, await this.credentials());
      if (this.password === 'wrong') throw new Fault('not-authorized', { over: true });
    } catch (fault) {
      if (this.state === 'over') return;
      if (fault.over) this.tell('over', fault);
      else {
        const seconds = fault.seconds || 1;
        this.timer = setTimeout(() => this.start(), seconds * 1000);
        this.tell('waiting', fault, Date.now() + seconds * 1000);
      }
      return;
    }
    if (!fake.hold && this.state !== 'over') this.tell('online');
  }

  tell(state, fault = null, nextTry = null, resumed = false) {
    this.state = state;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, fault, nextTry, resumed } }));
  }

  lose(word, seconds) {
    this.tell('waiting', new Fault(word), Date.now() + seconds * 1000);
  }

  retry() {
    this.tell('connecting');
    this.tell('online', null, null, true);
  }

  close() {
    clearTimeout(this.timer);
    if (this.state !== 'over') this.tell('over');
  }
}
