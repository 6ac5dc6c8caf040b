// AMQP clients against routers, by rhea: what `clients.rs` runs.
//
//     node suite.js CASE URL...        prints "ok", or says what is wrong and exits with 1
//
// The URLs are of routers of one network: amqp://, amqps:// or, for AMQP over WebSocket, ws://. The environment says who
// the clients are, as it does to `suite.py`. NODE_PATH is where rhea is, and ws for WebSocket.
const { createHash, randomBytes } = require("node:crypto");
const { EventEmitter } = require("node:events");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const rhea = require("rhea");

const PATIENCE = 1000 * Number(process.env.PATIENCE ?? 120);

const check = (isSo, ...what) => {
  if (!isSo) throw new Error(what.map((it) => (typeof it === "string" ? it : JSON.stringify(it))).join(" "));
};
const same = (a, b) => JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort());
const count = (counter, key) => (counter[key] = (counter[key] ?? 0) + 1);
const numbered = (length, prefix = "") => Array.from({ length }, (_, number) => `${prefix}${number}`);

// Whatever happens to a client is a change.
const changes = new EventEmitter().setMaxListeners(0);
let awaited = "";
const until = async (what, isSo) => {
  while (!isSo()) {
    awaited = what;
    await new Promise((resolve) => changes.once("change", resolve));
  }
};
const heard = async (emitter, event) => {
  let context;
  emitter.once(event, (it) => {
    context = it;
    changes.emit("change");
  });
  await until(event, () => context);
  return context;
};
// What is consumed elsewhere has to become known, and nothing tells a client.
const spread = () => new Promise((resolve) => setTimeout(resolve, 1000));

// How a client says who it is, as options of its connection.
const login = () => {
  const { SUITE_USER: username, SUITE_PASSWORD: password, SUITE_CERTIFICATES: folder } = process.env;
  const read = (name) => readFileSync(join(folder, name));
  const tls = folder ? { transport: "tls", ca: read("ca.crt"), servername: "" } : {};
  if (username) return { ...tls, username, password };
  if (folder) return { ...tls, cert: read("tls.crt"), key: read("tls.key"), enable_sasl_external: true };
  return { username: "anonymous" };
};
const begin = (url, more) => {
  const { protocol, hostname: host, port } = new URL(url);
  const options = { host, port, reconnect: false, ...login(), ...more };
  const overWebSocket = () => rhea.websocket_connect(require("ws"))(url, ["amqp"]);
  return rhea.connect(protocol === "ws:" ? { ...options, connection_details: overWebSocket() } : options);
};
const connect = async (url, more) => {
  const connection = begin(url, more);
  await heard(connection, "connection_open");
  return connection;
};
const close = async (...connections) => {
  for (const connection of connections) {
    connection.close();
    await heard(connection, "connection_close");
  }
};

const SETTLED_BY = {
  accepted: (delivery) => delivery.accept(),
  rejected: (delivery) => delivery.reject({ condition: "amqp:internal-error" }),
  released: (delivery) => delivery.release(),
  modified: (delivery) => delivery.modified({ delivery_failed: true }),
  nothing: () => {},
};

// Takes what comes from an address; `outcome` says what becomes of each message.
class Receiver {
  constructor(session, address, { window = 100, outcome = () => "accepted" } = {}) {
    this.messages = [];
    this.outcomes = {};
    this.link = session.open_receiver({ source: { address }, credit_window: window, autoaccept: false });
    this.link.on("message", ({ message, delivery }) => {
      const settled = outcome(this.messages.push(message) - 1);
      count(this.outcomes, settled);
      // Of two that it settles at once rhea tells one outcome for both, whatever they are.
      setImmediate(() => SETTLED_BY[settled](delivery));
      changes.emit("change");
    });
  }
  static async attach(session, address, options) {
    const receiver = new Receiver(session, address, options);
    await heard(receiver.link, "receiver_open");
    return receiver;
  }
  get bodies() {
    return this.messages.map(({ body }) => body);
  }
}

// Sends messages with these bodies to an address, and counts what becomes of them.
class Sender {
  constructor(session, address, bodies, options = {}) {
    this.outcomes = {};
    this.sent = this.settled = 0;
    this.bodies = bodies;
    this.link = session.open_sender({ target: address && { address }, treat_modified_as_released: false, ...options });
    this.link.on("sendable", () => this.send());
    this.link.on("settled", ({ delivery }) => {
      count(this.outcomes, delivery.remote_state.constructor.composite_type);
      this.settled++;
      this.send();
      changes.emit("change");
    });
  }
  send() {
    for (; this.sent < this.bodies.length && this.link.sendable(); this.sent++) this.link.send({ body: this.bodies[this.sent] });
    changes.emit("change");
  }
  async wait() {
    await until(`all outcomes of ${this.link.target?.address}`, () => this.settled === this.bodies.length);
    return this.outcomes;
  }
}

// What one sends, the other receives and accepts; it comes back while a new consumer is not known everywhere.
const passes = async (receiver, sender) => {
  const [had, { accepted = 0 }] = [receiver.messages.length, sender.outcomes];
  while (!(sender.outcomes.accepted > accepted)) {
    sender.bodies = [...sender.bodies, "it passes"];
    sender.send();
    await sender.wait();
  }
  check(receiver.messages.length === had + 1 && receiver.bodies.at(-1) === "it passes", receiver.bodies, sender.outcomes);
};

const cases = {
  // From each router to each, in order, every message once.
  async anycast(urls) {
    for (const to of urls) {
      for (const via of urls) {
        const address = `rhea/anycast/${urls.indexOf(to)}${urls.indexOf(via)}`;
        const [receiving, sending] = [await connect(to), await connect(via)];
        const receiver = await Receiver.attach(receiving, address);
        const bodies = numbered(100, `${address} `);
        const outcomes = await new Sender(sending, address, bodies).wait();
        check(same(outcomes, { accepted: 100 }), outcomes);
        check(same(receiver.bodies, bodies), receiver.bodies);
        await close(receiving, sending);
      }
    }
  },

  // Receivers at one router share evenly; receivers at others get their part.
  async balanced(urls) {
    const connections = await Promise.all([urls[0], urls[0], urls[0], urls[0], ...urls].map((url) => connect(url)));
    const near = await Promise.all(connections.slice(0, 4).map((it) => Receiver.attach(it, "rhea/balanced/near")));
    await new Sender(connections[0], "rhea/balanced/near", numbered(4000)).wait();
    const shares = near.map(({ messages }) => messages.length);
    check(Math.min(...shares) > 700, "uneven", shares);
    const far = await Promise.all(connections.slice(4).map((it) => Receiver.attach(it, "rhea/balanced/far")));
    await spread();
    await new Sender(connections[0], "rhea/balanced/far", numbered(3000)).wait();
    const parts = far.map(({ messages }) => messages.length);
    check(Math.min(...parts) > 0, "somebody got nothing", parts);
    await close(...connections);
  },

  // 20 subscribers over all routers get each message once; the sender hears the outcome of all.
  async multicast(urls) {
    const connections = await Promise.all(numbered(20).map((number) => connect(urls[number % urls.length])));
    const subscribers = await Promise.all(connections.map((it) => Receiver.attach(it, "mc/rhea")));
    const sending = await connect(urls.at(-1));
    const sender = new Sender(sending, "mc/rhea", []);
    await heard(sender.link, "sendable");
    await spread();
    sender.bodies = numbered(50);
    sender.send();
    const outcomes = await sender.wait();
    check(same(outcomes, { accepted: 50 }), outcomes);
    await until("all messages", () => subscribers.every(({ messages }) => messages.length >= 50));
    for (const { bodies } of subscribers) check(same(bodies, numbered(50)), bodies);
    await close(...connections, sending);
  },

  // Requests and answers between all routers, over reply addresses that their routers make.
  async requests(urls) {
    for (const to of urls) {
      const address = `rhea/service/${urls.indexOf(to)}`;
      const serving = await connect(to);
      const answers = serving.open_sender({ target: {} });
      await heard(answers, "sendable");
      const service = serving.open_receiver(address);
      service.on("message", ({ message: { reply_to, correlation_id, body } }) => {
        answers.send({ to: reply_to, correlation_id, body: body.toUpperCase() });
      });
      await heard(service, "receiver_open");
      for (const via of urls) {
        const asking = await connect(via);
        const replies = asking.open_receiver({ source: { dynamic: true } });
        const { receiver } = await heard(replies, "receiver_open");
        const heardOf = [];
        replies.on("message", ({ message }) => {
          heardOf[message.correlation_id] = message.body;
          changes.emit("change");
        });
        const questions = asking.open_sender(address);
        await heard(questions, "sendable");
        for (let id = 0; id < 50; id++) {
          questions.send({ body: `${id}-a`, reply_to: receiver.source.address, correlation_id: id });
        }
        await until("all answers", () => Object.keys(heardOf).length === 50);
        check(heardOf.every((body, id) => body === `${id}-A`), heardOf);
        await close(asking);
      }
      await close(serving);
    }
  },

  // Every outcome, counted at the sender; every body checked; receivers on every router.
  async outcomes(urls) {
    const wheel = ["accepted", "rejected", "released", "modified"];
    const connections = await Promise.all(urls.map((url) => connect(url)));
    const options = { window: 500, outcome: (number) => wheel[number % 4] };
    const receivers = await Promise.all(connections.map((it) => Receiver.attach(it, "rhea/outcomes", options)));
    await spread();
    const bodies = numbered(10_000, `${randomBytes(8).toString("hex")} `);
    const outcomes = await new Sender(connections[0], "rhea/outcomes", bodies).wait();
    const told = {};
    for (const receiver of receivers) {
      check(receiver.messages.length, "a receiver got nothing");
      for (const [outcome, times] of Object.entries(receiver.outcomes)) told[outcome] = (told[outcome] ?? 0) + times;
    }
    check(same(outcomes, told), "sender", outcomes, "receivers", told);
    check(same(receivers.flatMap(({ bodies }) => bodies).sort(), bodies.sort()), "bodies differ");
    await close(...connections);
  },

  // Messages of 10 MiB pass, whole and unchanged, in whatever order.
  async long_messages(urls) {
    const hash = (octets) => createHash("sha256").update(octets).digest("hex");
    const bodies = numbered(3).map(() => randomBytes(10 << 20));
    for (const [to, via] of [[urls[0], urls[0]], [urls.at(-1), urls[0]], [urls[0], urls.at(-1)]]) {
      const address = `rhea/long/${urls.indexOf(to)}${urls.indexOf(via)}`;
      const [receiving, sending] = [await connect(to), await connect(via)];
      const receiver = await Receiver.attach(receiving, address, { window: 2 });
      await new Sender(sending, address, bodies.map((body) => rhea.message.data_section(body))).wait();
      const received = receiver.bodies.map(({ content }) => hash(content));
      check(same(received.sort(), bodies.map(hash).sort()), `${via} to ${to}: other octets`);
      await close(receiving, sending);
    }
  },

  // Without credit nothing is sent, and as much as there is credit for, after it; drain gives it back.
  async starved(urls) {
    const [receiving, sending] = [await connect(urls.at(-1)), await connect(urls[0])];
    const receiver = await Receiver.attach(receiving, "rhea/starved", { window: 0 });
    const sender = new Sender(sending, "rhea/starved", numbered(1000));
    await until("the sender's credit to be used", () => sender.link.delivery_count && !sender.link.credit);
    check(sender.settled === 0 && sender.link.delivery_count <= 500, sender.link.delivery_count, sender.settled);
    for (let number = 0; number < 1000; number++) {
      receiver.link.flow(1);
      await until("a message", () => receiver.messages.length > number);
    }
    check(same(receiver.bodies, numbered(1000)), receiver.bodies);
    const outcomes = await sender.wait();
    check(same(outcomes, { accepted: 1000 }), outcomes);
    receiver.link.flow(10);
    receiver.link.drain_credit();
    await heard(receiver.link, "receiver_drained");
    check(receiver.link.credit === 0, receiver.link.credit);
    await close(receiving, sending);
  },

  // A message to nobody by an anonymous link is released, and a sender to nobody gets no credit until somebody comes.
  async unconsumed(urls) {
    const [sending, receiving] = [await connect(urls[0]), await connect(urls.at(-1))];
    const waiting = new Sender(sending, "rhea/nobody", ["x"]);
    const anonymous = sending.open_sender({ target: {} });
    await heard(anonymous, "sendable");
    anonymous.send({ to: "rhea/nobody/at-all", body: "x" });
    await heard(anonymous, "released");
    check(waiting.link.credit === 0, waiting.link.credit);
    const receiver = await Receiver.attach(receiving, "rhea/nobody");
    check(same(await waiting.wait(), { accepted: 1 }) && receiver.messages.length === 1, waiting.outcomes);
    await close(sending, receiving);
  },

  // Links that cannot be are refused with a reason, and the connection goes on.
  async refused(urls) {
    const connection = await connect(urls[0]);
    const refusal = async (link, event) => (await heard(link, event))[event.split("_")[0]].error.condition;
    const far = connection.open_receiver("amqp:/_topo/0/another/x");
    check((await refusal(far, "receiver_error")) === "qd:no-route-to-dest", far.error);
    const nowhere = connection.open_receiver({ source: {} });
    check((await refusal(nowhere, "receiver_error")) === "qd:no-route-to-dest", nowhere.error);
    const routers = connection.open_sender({ target: { address: "x", capabilities: "qd.router" } });
    check((await refusal(routers, "sender_error")) === "qd:forbidden", routers.error);
    await passes(await Receiver.attach(connection, "rhea/refused"), new Sender(connection, "rhea/refused", []));
    await close(connection);
  },

  // A thousand links on one connection, each with an address of its own.
  async many_links(urls) {
    const connection = await connect(urls[0]);
    const addresses = numbered(500, "rhea/many/");
    const receivers = addresses.map((address) => new Receiver(connection, address, { window: 10 }));
    const senders = addresses.map((address) => new Sender(connection, address, [address]));
    for (const sender of senders) await sender.wait();
    check(receivers.every(({ bodies }, number) => same(bodies, [addresses[number]])), "not to where it was sent");
    await close(connection);
  },

  // Settled messages arrive, settled.
  async presettled(urls) {
    const [receiving, sending] = [await connect(urls.at(-1)), await connect(urls[0])];
    const receiver = await Receiver.attach(receiving, "rhea/presettled");
    let unsettled = 0;
    receiver.link.on("message", ({ delivery }) => (unsettled += !delivery.remote_settled));
    new Sender(sending, "rhea/presettled", numbered(200), { snd_settle_mode: 1 });
    await until("all messages", () => receiver.messages.length === 200);
    check(same(receiver.bodies, numbered(200)) && unsettled === 0, unsettled, receiver.bodies);
    await close(receiving, sending);
  },

  // A link, a session, a connection that its client ends with an error: what it had not settled comes back, and whatever
  // it was part of goes on.
  async ended_by_client(urls) {
    for (const to of urls) {
      const sending = await connect(urls[0]);
      for (const kind of ["link", "session", "connection"]) {
        const [address, receiving] = [`rhea/ended/${kind}/${urls.indexOf(to)}`, await connect(to)];
        const session = receiving.create_session();
        session.begin();
        const receiver = await Receiver.attach(session, address, { outcome: () => "nothing" });
        const sender = new Sender(sending, address, numbered(10));
        await until("all messages", () => receiver.messages.length === 10);
        const ended = { link: receiver.link, session, connection: receiving }[kind];
        ended.close({ condition: "amqp:internal-error", description: "the client has had enough" });
        await heard(ended, { link: "receiver_close", session: "session_close", connection: "connection_close" }[kind]);
        check(!ended.error, `the router answers with an error: ${ended.error?.condition}`);
        check(same(await sender.wait(), { modified: 10 }), kind, sender.outcomes);
        if (kind === "connection") continue;
        await passes(await Receiver.attach(kind === "link" ? session : receiving, address), sender);
        await close(receiving);
      }
      await close(sending);
    }
  },

  // Two sessions of one connection do not see each other.
  async sessions(urls) {
    const connection = await connect(urls[0]);
    const pairs = numbered(2).map((address) => {
      const session = connection.create_session();
      session.begin();
      const receiver = new Receiver(session, `rhea/session/${address}`);
      return [session, receiver, new Sender(session, `rhea/session/${address}`, numbered(500, address))];
    });
    for (const [number, [, receiver, sender]] of pairs.entries()) {
      await sender.wait();
      check(same(receiver.bodies, numbered(500, `${number}`)), receiver.bodies);
    }
    pairs[0][0].close();
    await heard(pairs[0][0], "session_close");
    await passes(pairs[1][1], pairs[1][2]);
    await close(connection);
  },

  // Who sends more than it may is told so, and nobody else notices.
  async beyond_credit(urls) {
    const [greedy, receiving, sending] = await Promise.all([urls[0], urls.at(-1), urls[0]].map((url) => connect(url)));
    const receiver = await Receiver.attach(receiving, "rhea/beyond");
    const sender = new Sender(sending, "rhea/beyond", []);
    await passes(receiver, new Sender(greedy, "rhea/beyond", []));
    const link = greedy.open_sender("rhea/beyond/nobody");
    await heard(link, "sender_open");
    link.has_credit = () => true;
    link.send({ body: "too much" });
    const { error } = await heard(greedy, "connection_error");
    check(error.condition === "amqp:link:transfer-limit-exceeded", error.condition);
    await passes(receiver, sender);
    await close(receiving, sending);
  },

  // A router keeps a client's connection alive that has nothing to say, and is kept alive by it.
  async kept_alive(urls) {
    for (const url of urls) {
      const connection = await connect(url, { idle_time_out: 2000 });
      let frames = 0;
      connection.socket.on("data", () => {
        frames++;
        changes.emit("change");
      });
      await until("empty frames", () => frames >= 3);
      await passes(await Receiver.attach(connection, "rhea/alive"), new Sender(connection, "rhea/alive", []));
      await close(connection);
    }
  },

  // A client that falls silent is told why its connection ends.
  async silent(urls) {
    for (const url of urls) {
      const connection = await connect(url);
      clearTimeout(connection.heartbeat_out);
      connection.remote.open.idle_time_out = 0;
      const { error } = await heard(connection, "connection_error");
      check(error.condition === "amqp:resource-limit-exceeded", error.condition);
    }
  },

  // Whoever is not known does not get in.
  async turned_away(urls) {
    for (const url of urls) {
      const connection = begin(url);
      // rhea may write on after it has hung up.
      connection.on("disconnected", () => {});
      const { error } = await heard(connection, "connection_error");
      check(error.condition === "amqp:unauthorized-access", error.condition);
    }
  },
};

const [name, ...urls] = process.argv.slice(2);
const end = (what) => {
  console.log(what === undefined ? "ok" : `${name}: ${what}`);
  process.exit(what === undefined ? 0 : 1);
};
for (const event of ["connection_error", "session_error", "sender_error", "receiver_error", "disconnected", "protocol_error", "error"]) {
  rhea.on(event, (it) => end(`${event}: ${it?.error?.condition ?? it?.error ?? it?.receiver?.error ?? it?.sender?.error ?? it}`));
}
setTimeout(() => end(`still not so: ${awaited}`), PATIENCE);
cases[name](urls).then(() => end(), (error) => end(error.stack));
