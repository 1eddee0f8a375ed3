import assert from 'node:assert/strict';
import test from 'node:test';

import { XMLElement, element, faultOf, parse } from '../../cms/door/static/session.js';
import { randomOf } from './world.mjs';

/** Everything of an element. */
const all = ({ name, namespace, attributes, children }) =>
  [name, namespace, { ...attributes }, children.map((child) => (typeof child === 'string' ? child : all(child)))];

test('reads what RFC 6120 11 allows', () => {
  const read = parse("<?m:message xmlns:m='jabber:client' xmlns='urn:x' m:a = \"1\" xml:lang='en' b='&lt;&#x41;&#66;&#10;\t&apos;'>"
    .replace('?', '') + "a&amp;b<![CDATA[<c>&d]]>\r\n<x/><m:y xmlns='' z='>'/></m:message>");
  assert.deepEqual(all(read), ['message', 'jabber:client', { 'jabber:client a': '1', 'xml:lang': 'en', b: "<AB\n '" },
    ['a&b', '<c>&d', '\n', ['x', 'urn:x', {}, []], ['y', 'jabber:client', { z: '>' }, []]]]);
  assert.equal(read.text, 'a&b<c>&d\n');
  assert.equal(read.child('x', 'urn:x').name, 'x');
  assert.equal(read.child('x'), undefined); // of its own namespace
  assert.equal(read.get('none'), '');
});

const BAD = {
  nothing: '', 'white space': ' \n', text: 'hello', 'text before': 'a<b/>', 'text after': '<b/>a', 'two elements': '<a/><b/>',
  'no end': '<a>', 'another end': '<a></b>', 'an end': '</a>', 'end with attributes': "<a></a b='c'>", 'an end that is empty': '<a></a/>',
  comment: '<a><!-- b --></a>', instruction: '<a><?b c?></a>', declaration: "<?xml version='1.0'?><a/>", doctype: '<!DOCTYPE a><a/>',
  entity: '<a>&b;</a>', 'entity of an object': '<a>&constructor;</a>', 'no semicolon': '<a>&amp</a>', ampersand: '<a>a & b</a>',
  'no such character': '<a>&#x110000;</a>', 'attribute twice': "<a b='1' b='2'/>", 'attribute of no value': '<a b/>', 'no quotes': '<a b=c/>',
  'less in a value': "<a b='<'/>", prefix: '<b:a/>', 'prefix of an object': '<constructor:a/>', 'half a tag': '<a', less: '<', 'CDATA without end': '<a><![CDATA[b</a>',
  'too deep': '<a>'.repeat(100) + '</a>'.repeat(100), 'too long': `<a>${'b'.repeat(1 << 20)}</a>`,
};
for (const [name, text] of Object.entries(BAD)) {
  test(`does not read: ${name}`, () => assert.throws(() => parse(text), /SyntaxError|RangeError/));
}

test('reading costs no more than the length, whatever is read', { timeout: 20_000 }, () => {
  const pieces = ['<a ', ' ', '=', "'", '<a', "<a b='c' ", '&amp', '<![CDATA[', ']]', '/'];
  for (const piece of pieces) assert.throws(() => parse(piece.repeat(Math.floor(500_000 / piece.length))));
  parse(`<a>${"<b c='d'/>".repeat(50_000)}</a>`);
});

test('what is written is read as it was', () => {
  const random = randomOf(7);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const words = ['', 'a', '<script>alert(1)</script>', '&amp;', "it's \"so\"", ' two\nlines\t', '\u{1f600} \u202e', ']]>', '__proto__'];
  const make = (depth) => element(pick(['a', 'b', 'constructor']), pick(['urn:a', 'urn:b', "urn:'&"]),
    Object.fromEntries([['x', pick(words)], ['toString', pick(words)]].slice(0, Math.floor(random() * 3))),
    ...Array.from({ length: depth && Math.floor(random() * 4) }, () => (random() < 0.5 ? make(depth - 1) : pick(words) || 'w')));
  const joined = (node) => {
    const children = [];
    for (const child of node.children) {
      if (typeof child !== 'string') children.push(joined(child));
      else if (typeof children.at(-1) === 'string') children.push(children.pop() + child);
      else children.push(child);
    }
    return new XMLElement(node.name, node.namespace, node.attributes, children);
  };
  for (let times = 0; times < 500; times += 1) {
    const made = joined(make(4));
    assert.deepEqual(all(parse(String(made))), all(made));
  }
});

test('what is in no XML does not leave', () => {
  assert.equal(parse(String(element('a', '', { b: '\0' }, '\x1b\ud800\u{10000}\uffff'))).text, '\ufffd\ufffd\u{10000}\ufffd');
});

test('nothing is left out but what is not there', () => {
  const made = element('a', 'urn:a', { b: null, c: undefined, d: false, e: 0, f: true, g: '' }, null, undefined, false, '', 'h');
  assert.equal(String(made), "<a xmlns='urn:a' e='0' f='true' g=''>h</a>");
});

test('a fault of the catalogue goes before the condition', () => {
  const fault = faultOf(parse("<error xmlns='jabber:client' type='wait'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
    + "<no-callbridge xmlns='urn:x-cms:fault:1' step='1' seconds='7'/></error>"));
  assert.deepEqual([fault.word, fault.step, fault.seconds, fault.type, fault.over], ['no-callbridge', 1, 7, 'wait', false]);
});
