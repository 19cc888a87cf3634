"""What no floor is measured against: very many connections, very many channels, clients
that read nothing. Each has its own aims; what must be zero is checked in all.

hundred-thousand  one channel, a message a second for five minutes; every 10 s a worker
                  is killed (SIGKILL)
million           one message a minute to a million connections
channels          6,000 and 20,000 messages a second to about 10 receivers each, of 10,000
                  and of 20,000 channels
slow              with and without one client in ten that reads nothing
"""

import statistics

from stand import faults, figure

NAMES = ("hundred-thousand", "million", "channels", "slow")
# Each worker's descriptors stay below the usual hard limit of 20,000.
PER_WORKER = 18600


def row(what, value, aim, met):
    return [what, value, aim, "yes" if met else "NO"]


def time_text(us):
    return f"{us / 1e6:.2f} s" if us >= 1e6 else f"{us / 1e3:.3g} ms"


def times_of(run, key):
    return ", ".join(f"{q} {time_text(run[key][q])}"
                     for q in ("p50", "p90", "p99", "max") if q in run[key])


def crowd_rows(name, run, kernel_too=True):
    """What is to be said of many connections."""
    n = run["connections"]["wanted"]
    bad = faults([run])
    closed = run["connections"]["closed_by_server"]
    memory = run["memory"]["user_bytes_per_connection"]
    kernel = run["memory"]["kernel_bytes_per_pair"]
    yield row(f"{name}: open at the end, of {n:,}",
              figure(run["connections"]["open"]), f"{n:,}",
              run["connections"]["open"] == n)
    yield row(f"{name}: closed by the server", str(closed), "0", closed == 0)
    yield row(f"{name}: lost, repeated, out of order, altered",
              str(bad or 0), "0", not bad)
    yield row(f"{name}: messages that did not reach all",
              str(run["messages"]["incomplete"]), "0",
              run["messages"]["incomplete"] == 0)
    yield row(f"{name}: user memory per connection, B", figure(memory), "at most 256",
              memory <= 256)
    yield row(f"{name}: kernel memory per pair of sockets, B", figure(kernel), "-", True)
    yield row(f"{name}: connections accepted/s", figure(run["connections"]["per_s"]),
              "-", True)
    yield row(f"{name}: latency", times_of(run, "latency_us"), "-", True)
    yield row(f"{name}: fanout", times_of(run, "fanout_us"), "-", True)
    yield row(f"{name}: server CPU per delivery, us",
              figure(run["server"]["cpu_us_per_delivery"]), "-", True)
    yield row(f"{name}: restarts", str(run["restarts"]), "-", True)


def hundred_thousand(stand, args):
    n = args.connections or 100000
    run = stand.run("hundred-thousand", [
        "broadcast", f"--connections={n}", "--rate=1", "--warmup=2",
        f"--duration={args.seconds or 300}", "--settle=60", "--drain=30",
        "--restart-every=10", "--restart=kill"],
        settings=["server.workers=8"], via="control")
    yield from crowd_rows("hundred-thousand", run)


def million(stand, args):
    n = args.connections or 1000000
    workers = max(2, -(-n // PER_WORKER))
    # Pings to all would take a third of two cores by themselves.
    run = stand.run("million", [
        "broadcast", f"--connections={n}", f"--rate={1 / 60}", "--warmup=0",
        f"--duration={args.seconds or 125}", "--settle=120", "--drain=60",
        "--concurrency=4096"],
        settings=[f"server.workers={workers}", "limits.ping_interval=10m"],
        via="control")
    yield from crowd_rows("million", run)


def channels_at(stand, args, n, rate):
    """Twice as many channels, and each connection in twice as many: as many receivers
    of a message as before."""
    costs = {1: [], 2: []}
    bad = {}
    name = f"channels at {rate:,}/s"
    for turn in range(args.rounds):
        for times in (1, 2):
            run = stand.run(f"channels-{rate}-{turn}-{times}", [
                "channels", f"--connections={n}", f"--channels={n * times}",
                f"--subscriptions={10 * times}", f"--rate={rate}", "--warmup=1",
                "--settle=60", f"--duration={args.seconds or 5}"], via="control")
            costs[times].append(run)
            bad.update(faults([run]))
    yield row(f"{name}: lost, repeated, out of order, altered", str(bad or 0), "0",
              not bad)
    for times, runs in costs.items():
        for key, what in (("cpu_us_per_message", "message"),
                          ("cpu_us_per_delivery", "delivery")):
            value = statistics.median(run["server"][key] for run in runs)
            yield row(f"{name}: {n * times:,}: server CPU per {what}, us",
                      figure(value), "-", True)
        middle = sorted(runs, key=lambda run: run["latency_us"]["p99"])[len(runs) // 2]
        yield row(f"{name}: {n * times:,}: latency", times_of(middle, "latency_us"),
                  "-", True)
        yield row(f"{name}: {n * times:,}: deliveries/s",
                  figure(middle["deliveries"]["per_s"]), "-", True)
    ratio = statistics.median(
        b["server"]["cpu_us_per_message"] / a["server"]["cpu_us_per_message"]
        for a, b in zip(costs[1], costs[2]))
    yield row(f"{name}: CPU per message, twice the channels", f"{ratio:.2f}",
              "at most 1.1", ratio <= 1.1)


def channels(stand, args):
    """At what two cores carry together with their clients, and at what they do not."""
    n = args.connections or 10000
    yield from channels_at(stand, args, n, 6 * n // 10)
    yield from channels_at(stand, args, n, 2 * n)


def slow(stand, args):
    """The same clients that read, with and without others that do not."""
    ratios, memory, bad, closed = [], [], {}, 0
    n = args.connections or 5000
    for turn in range(args.rounds):
        p99 = {}
        for share in (0, 0.1):
            run = stand.run(f"slow-{turn}-{share}", [
                "slow", f"--connections={n if share else n * 9 // 10}",
                f"--slow={share}", f"--duration={args.seconds or 8}"], via="control")
            p99[share] = run["latency_us"]["p99"]
            bad.update(faults([run]))
            if share:
                closed += run["connections"]["closed_by_server"]
                memory.append(run["memory"]["pss_end"] - run["memory"]["pss_connected"])
        ratios.append(p99[0.1] / p99[0])
    ratio = statistics.median(ratios)
    yield row("slow: p99 of the others, with to without", f"{ratio:.2f}", "at most 1.1",
              ratio <= 1.1)
    yield row("slow: server memory more than before the first message, per slow client, B",
              figure(statistics.median(memory) / (n / 10)), "-", True)
    yield row("slow: closed by the server before limits.write_timeout", str(closed), "0",
              closed == 0)
    yield row("slow: lost, repeated, out of order, altered", str(bad or 0), "0", not bad)


RUNS = {"hundred-thousand": hundred_thousand, "million": million,
        "channels": channels, "slow": slow}
HEAD = ["measure", "figure", "aim", "met"]
