// Socket.IO with its Redis adapter: one process per core, fed by what the Redis emitter
// publishes. Only the WebSocket transport, so that no sticky sessions are needed.
"use strict";
const cluster = require("cluster");
const os = require("os");

if (cluster.isPrimary) {
	os.cpus().forEach(() => cluster.fork());
	cluster.on("exit", () => process.exit(1));
	process.on("SIGTERM", () => process.exit(0));
} else {
	serve().catch((e) => {
		console.error(e);
		process.exit(1);
	});
}

async function serve() {
	const { createAdapter } = require("@socket.io/redis-adapter");
	const { createClient } = require("redis");
	const pub = createClient({ url: `redis://${process.env.REDIS}` });
	const sub = pub.duplicate();

	await Promise.all([pub.connect(), sub.connect()]);
	const http = require("http").createServer();
	const { Server } = require("socket.io");

	new Server(http, {
		transports: ["websocket"],
		serveClient: false,
		adapter: createAdapter(pub, sub),
	});
	http.listen({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 65535 });
}
