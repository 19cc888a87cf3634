// What a client that knows nothing of wscast sees of it: run by Chromium as it is, and by
// Node with the package `ws`, which has the browsers' interface.
//
//   node client.js ws://127.0.0.1:PORT http://127.0.0.1:PORT
//
// The first address is wscastd's, the second the test's own, which publishes on request.
// Each function of `scenarios` throws when something is not as it must be. The outcome is
// {name: null or the error}: printed by Node, posted to /result by the page.
"use strict";

const MIB = 1 << 20;
const WAIT_MS = 20000;

function must(ok, what) {
  if (!ok) throw new Error(what);
}

function soon(promise, what) {
  return Promise.race([promise, new Promise((_, no) =>
    setTimeout(() => no(new Error("never came: " + what)), WAIT_MS))]);
}

// A WebSocket with messages that can be waited for one by one.
class Client {
  constructor(WebSocket, url, protocols, options) {
    this.messages = [];
    this.waiting = null;
    this.ws = options ? new WebSocket(url, protocols || [], options)
      : protocols ? new WebSocket(url, protocols) : new WebSocket(url);
    this.ws.binaryType = "arraybuffer";
    this.opened = new Promise((yes, no) => {
      this.ws.onopen = yes;
      this.ws.onerror = (e) => no(new Error("error event " + (e.message || "")));
    });
    this.closed = new Promise((yes) => { this.ws.onclose = yes; });
    this.ws.onmessage = (e) => {
      if (this.waiting) { this.waiting(e.data); this.waiting = null; }
      else this.messages.push(e.data);
    };
  }
  next() {
    if (this.messages.length) return Promise.resolve(this.messages.shift());
    return soon(new Promise((yes) => { this.waiting = yes; }), "a message");
  }
  async close(code, reason) {
    if (code === undefined) this.ws.close(); else this.ws.close(code, reason);
    return soon(this.closed, "the close");
  }
}

function bytes(n) {
  const out = new Uint8Array(n);
  for (let i = 0, x = 1; i < n; i++) { x = (x * 1103515245 + 12345) & 0x7fffffff; out[i] = x >> 16; }
  return out;
}

function same(a, b) {
  a = new Uint8Array(a);
  return a.length === b.length && a.every((v, i) => v === b[i]);
}

function scenarios(WebSocket, ws, http, options) {
  const open = async (path, protocols) => {
    const c = new Client(WebSocket, ws + path, protocols, options);
    await soon(c.opened, "the upgrade");
    return c;
  };
  const get = async (path) => { const r = await fetch(http + path); must(r.ok, path + ": " + r.status); };
  const echo = async (data) => {
    const c = await open("/echo");
    c.ws.send(data);
    const got = await c.next();
    must(typeof data === "string" ? got === data : same(got, data), "came back changed");
    must((await c.close(1000)).wasClean, "not closed cleanly");
  };
  return {
    echo_text: () => echo("κόσμε 🎈"),
    echo_empty_text: () => echo(""),
    echo_binary: () => echo(bytes(1000)),
    echo_empty_binary: () => echo(bytes(0)),
    echo_text_of_1_mib: () => echo("aé漢🎈".repeat(MIB / 10 | 0)),
    echo_binary_of_1_mib: () => echo(bytes(MIB)),
    echo_compressible_of_1_mib: () => echo("x".repeat(MIB)),
    async echo_200_in_order() {
      const c = await open("/echo");
      for (let i = 0; i < 200; i++) c.ws.send(i % 2 ? "message " + i : bytes(i));
      for (let i = 0; i < 200; i++) {
        const got = await c.next();
        must(i % 2 ? got === "message " + i : same(got, bytes(i)), "message " + i);
      }
      must((await c.close()).wasClean, "not closed cleanly");
    },
    async close_code_and_reason() {
      const c = await open("/echo");
      const e = await c.close(4321, "because é");
      must(e.wasClean && e.code === 4321, "code " + e.code);
    },
    async no_subprotocol_unless_offered() {
      const c = await open("/echo");
      must(c.ws.protocol === "", "protocol " + c.ws.protocol);
      await c.close();
      // None of those offered: the API itself takes that for an error.
      const other = new Client(WebSocket, ws + "/echo", ["other"], options);
      const outcome = await soon(Promise.race([other.opened.then(() => "open", () => "error")]), "an outcome");
      must(outcome === "error", outcome);
    },
    async raw_text_and_binary() {
      const c = await open("/ws/news");
      await get("/subscribed?channel=news&clients=1");
      await get("/publish?channel=news&kind=text&size=40");
      must(await c.next() === "x".repeat(40), "text");
      await get("/publish?channel=news&kind=binary&size=40");
      must(same(await c.next(), new Uint8Array(40).fill(255)), "binary");
      await c.close();
    },
    async raw_of_1_mib() {
      const c = await open("/ws/news1");
      await get("/subscribed?channel=news1&clients=1");
      await get("/publish?channel=news1&kind=text&size=" + MIB);
      must(await c.next() === "x".repeat(MIB), "text");
      await get("/publish?channel=news1&kind=binary&size=" + MIB);
      must(same(await c.next(), new Uint8Array(MIB).fill(255)), "binary");
      await c.close();
    },
    async raw_publishes_to_others() {
      const a = await open("/ws/talk:1"), b = await open("/ws/talk:1");
      await get("/subscribed?channel=talk:1&clients=2");
      a.ws.send("from a");
      must(await b.next() === "from a", "text");
      must(await a.next() === "from a", "its own");
      const data = bytes(100);
      b.ws.send(data);
      must(same(await a.next(), data), "binary");
      await a.close(); await b.close();
    },
    async v1_subscribes_and_publishes() {
      const c = await open("/ws", ["wscast.v1"]);
      must(c.ws.protocol === "wscast.v1", "protocol " + c.ws.protocol);
      must(JSON.parse(await c.next()).hello, "hello");
      const ask = async (request) => {
        c.ws.send(JSON.stringify(request));
        const answer = JSON.parse(await c.next());
        must(answer.id === request.id, JSON.stringify(answer));
        return answer;
      };
      must((await ask({id: 1, subscribe: "talk:2"})).ok, "subscribe");
      c.ws.send(JSON.stringify({publish: "talk:2", data: {text: "κόσμε".repeat(1000)}}));
      must(JSON.parse(await c.next()).data.text === "κόσμε".repeat(1000), "the message");
      must((await ask({id: "two", nonsense: 1})).error.code === "bad_request", "an error");
      must((await c.close(1000)).wasClean, "not closed cleanly");
    },
    async refused_for_a_wrong_path() {
      const c = new Client(WebSocket, ws + "/nowhere", undefined, options);
      must(await soon(c.opened.then(() => "open", () => "error"), "an outcome") === "error", "it opened");
    },
    async closed_with_1009_when_too_long() {
      const c = await open("/echo");
      c.ws.send(bytes(3 * MIB));
      const e = await soon(c.closed, "the close");
      must(e.code === 1009 || e.code === 1006, "code " + e.code); // 1006: it was still sending
    },
    async fifty_at_once() {
      const all = await Promise.all(Array.from({length: 50}, () => open("/ws/crowd")));
      await get("/subscribed?channel=crowd&clients=50");
      await get("/publish?channel=crowd&kind=text&size=2000");
      for (const c of all) must(await c.next() === "x".repeat(2000), "text");
      await Promise.all(all.map((c) => c.close()));
    },
  };
}

async function run(WebSocket, ws, http, options) {
  const out = {};
  for (const [name, f] of Object.entries(scenarios(WebSocket, ws, http, options))) {
    try {
      await f();
      out[name] = null;
    } catch (e) {
      out[name] = String(e && e.message || e);
    }
  }
  return out;
}

// The same page by another name is of another origin. Its outcome, as a frame of ours.
async function otherOrigin() {
  const frame = document.createElement("iframe");
  const said = new Promise((yes) => { onmessage = (e) => yes(e.data); });
  frame.src = location.href.replace("127.0.0.1", "localhost") + "&frame=1";
  document.body.append(frame);
  return soon(said, "the frame's outcome");
}

if (typeof window === "undefined") {
  const WebSocket = require("ws");
  const [ws, http, deflate] = process.argv.slice(2);
  run(WebSocket, ws, http, {perMessageDeflate: deflate === "deflate"}).then((out) => {
    console.log(JSON.stringify(out));
    process.exit(0);
  });
} else {
  const query = new URLSearchParams(location.search), ws = query.get("ws");
  const tell = (out) => fetch("/result", {method: "POST", body: JSON.stringify(out)});
  if (query.has("frame")) {
    new Client(WebSocket, ws + "/echo").opened.then(
      () => parent.postMessage("opened", "*"), () => parent.postMessage("refused", "*"));
  } else {
    run(WebSocket, ws, location.origin).then(async (out) => {
      const other = await otherOrigin().catch(String);
      out.refused_for_another_origin = other === "refused" ? null : other;
      return tell(out);
    });
  }
}
