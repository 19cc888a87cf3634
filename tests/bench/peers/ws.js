// ws: one process per core, a subscriber to Redis in each, and a loop over the clients
// of a channel, as the examples of the package have it.
"use strict";
require("./cluster")(async () => {
	const { WebSocketServer } = require("ws");
	const redis = require("redis").createClient({ url: `redis://${process.env.REDIS}` });
	const channels = new Map();

	await redis.connect();
	await redis.pSubscribe("wscast:*", (message, channel) => {
		for (const client of channels.get(channel.slice(7)) || []) client.send(message);
	});
	const server = new WebSocketServer({
		host: "127.0.0.1",
		port: Number(process.env.PORT),
		backlog: 65535,
		perMessageDeflate: false,
	});
	server.on("connection", (client, request) => {
		const names = new URL(request.url, "ws://x").searchParams.getAll("channel");

		for (const name of names) {
			if (!channels.has(name)) channels.set(name, new Set());
			channels.get(name).add(client);
		}
		client.on("error", () => {});
		client.on("close", () => names.forEach((n) => channels.get(n).delete(client)));
	});
});
