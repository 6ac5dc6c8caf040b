// node rhea_websocket.js URL COUNT: sends messages to an address and receives them again, over WebSocket. Every body is
// checked, every outcome counted; the last message takes many frames.
const rhea = require("rhea");
const WebSocket = require("ws");

const [url, count] = [process.argv[2], Number(process.argv[3])];
const large = Buffer.alloc(1 << 20, "x");
let [sent, accepted, received] = [0, 0, 0];

const fail = (...what) => {
  console.error(...what, `sent ${sent}, accepted ${accepted}, received ${received}`);
  process.exit(1);
};
const container = rhea.create_container();
const details = container.websocket_connect(WebSocket)(url, ["amqp"]);
const connection = container.connect({ connection_details: details, reconnect: false });
const body = (number) => (number < count ? `message ${number}` : rhea.message.data_section(large));
const isBody = (body, number) => (number < count ? body === `message ${number}` : large.equals(body.content));
const closeIfDone = () => {
  if (received > count && accepted > count) connection.close();
};

container.on("connection_open", () => connection.open_receiver("key"));
container.on("receiver_open", () => connection.open_sender("key"));
container.on("sendable", ({ sender }) => {
  for (; sent <= count && sender.sendable(); sent++) sender.send({ body: body(sent) });
});
container.on("accepted", () => {
  accepted++;
  closeIfDone();
});
container.on("message", ({ message }) => {
  if (!isBody(message.body, received)) fail(`message ${received} has another body`);
  received++;
  closeIfDone();
});
container.on("connection_close", () => {
  console.log(`accepted ${accepted}, received ${received}`);
  process.exit(0);
});
for (const event of ["rejected", "released", "modified", "connection_error", "session_error", "sender_error", "receiver_error", "disconnected"]) {
  container.on(event, ({ error }) => fail(event, error ?? ""));
}
