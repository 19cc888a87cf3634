// One process per core; the end of one is the end of all.
"use strict";
const cluster = require("cluster");
const os = require("os");

module.exports = (serve) => {
	if (cluster.isPrimary) {
		os.cpus().forEach(() => cluster.fork());
		cluster.on("exit", () => process.exit(1));
		process.on("SIGTERM", () => process.exit(0));
		return;
	}
	serve().catch((e) => {
		console.error(e);
		process.exit(1);
	});
};
