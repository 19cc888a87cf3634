// Socket.IO with its Redis adapter: one process per core, fed by what the Redis emitter
// publishes. Only the WebSocket transport, so that no sticky sessions are needed.
"use strict";
require("./cluster")(async () => {
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
});
