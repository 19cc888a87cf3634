"""The shells' completions against what wsctl and wsbench themselves say."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BIN, DEADLINE, Case
from wsclient import V1

FOLDER = os.path.abspath("packaging/completions")
HELP = json.loads(subprocess.run([os.path.join(BIN, "wsctl"), "help", "--json"],
                                 capture_output=True, check=True, timeout=DEADLINE).stdout)
OPTIONS = {c["command"]: c["options"] for c in HELP["commands"]}
BENCH = subprocess.run([os.path.join(BIN, "wsbench"), "help"], capture_output=True, text=True,
                       timeout=DEADLINE).stdout

BASH = r"""
source "$FOLDER/$1.bash"; line=$2
COMP_LINE=$line; COMP_POINT=${#line}
read -r -a COMP_WORDS <<<"$line"; [[ $line == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"_$1"; printf '%s\n' "${COMPREPLY[@]}"
"""

# A shell that somebody types at, with the system's own completion functions.
ZPTY = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'fpath=($FOLDER $fpath); autoload -Uz compinit; compinit -u -D; PS1=READY; echo DO""NE'
zpty -r -m z out '*DONE*READY*'
zpty -w -n z $'\x15'"$1"$'\t'
zpty -r -m z out "*$2*" && print completed
zpty -d z
"""

# What compadd is given is what would be offered: no terminal's listing to be read.
ZSH = r"""
compadd() {
	local -a take; local name word
	while [[ $1 == -* ]]; do
		case $1 in
		-a) shift; for name in "$@"; do take+=("${(@P)name}"); done; break ;;
		-S) shift ;;
		esac
		shift
	done
	for word in $take; do [[ $word == "$PREFIX"* ]] && print -r -- $word; done
	return 0
}
_describe() { local -a take; take=("${(@P)2}"); for w in $take; do w=${w%%:*}; [[ $w == "$PREFIX"* ]] && print -r -- $w; done }
_files() { print -rl -- *(N) }
line=$2
words=(${(z)line}); [[ $line == *' ' ]] && words+=("")
CURRENT=${#words}; PREFIX=${words[CURRENT]}
source $FOLDER/_$1
"""


def lines(text):
    return sorted(filter(None, text.splitlines()))


class Completions:
    """The same claims for each shell; offer() says what it completes a line with."""

    shell = None

    def setUp(self):
        if not shutil.which(self.shell):
            self.skipTest("needs " + self.shell)

    def run_shell(self, argv, socket):
        env = dict(os.environ, FOLDER=FOLDER, WSCAST_SOCKET=socket, LC_ALL="C.UTF-8",
                   PATH=BIN + ":" + os.environ["PATH"], HOME="/nonexistent")
        p = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, env=env,
                           stdin=subprocess.DEVNULL)
        self.assertEqual(p.stderr, "")
        return lines(p.stdout)

    def check(self, line, want, socket="/nowhere/control.sock", program="wsctl"):
        self.assertEqual(self.offer(program, line, socket), sorted(want), line)

    def test_commands_are_wsctls(self):
        self.check("wsctl ", [*OPTIONS, "help"])
        self.check("wsctl -j cli", ["client", "clients"])
        self.check("wsctl -s /x und", ["undrain"])
        self.check("wsctl help dr", ["drain"])

    def test_options_are_each_commands(self):
        for command, options in OPTIONS.items():
            want = [o for o in options + HELP["options"] if o.startswith("--")]
            self.check("wsctl %s --" % command, want)
        self.check("wsctl clients -", OPTIONS["clients"] + HELP["options"])
        self.check("wsctl --j", ["--json"])

    def test_without_a_server_nothing_is_offered_or_said(self):
        for line in ("tail ", "restart ", "kick ", "config ", "clients -u ", "kick -c "):
            self.check("wsctl " + line, [])
        self.check("wsctl log-level ", ["error", "warning", "notice", "info", "debug"])

    def test_key_is_a_file_for_token_alone(self):
        self.assertIn("README.md", self.offer("wsctl", "wsctl token --key ", "/nowhere"))
        self.check("wsctl publish --key ", [])

    def test_names_come_from_the_server(self):
        d = self.daemon(workers=3)

        async def go():
            client = await V1.open(d, "chat:a", "chat:b", "news")
            ask = lambda line, want: self.check("wsctl " + line, want, d.control)
            ask("tail n", ["news"])
            ask("publish ", self.channels("chat:a", "chat:b", "news"))
            ask("kick -c ne", ["news"])
            ask("restart ", ["0", "1", "2"])
            ask("client ", [client.hello["client"]])
            ask("config server.work", ["server.workers"])
            self.assertEqual(self.offer("wsctl", "wsctl tail chat:", d.control),
                             self.behind_colon("chat:a", "chat:b"))
            await client.close()

        asyncio.run(go())

    def channels(self, *names):
        return names

    def behind_colon(self, *names):
        return list(names)

    def test_wsbench_offers_what_its_help_says(self):
        presets = re.findall(r"^  ([a-z]+) ", BENCH, re.M)
        options = re.findall(r"^  (--[a-z-]+=?)", BENCH, re.M)
        self.assertGreater(len(presets), 4)
        self.assertGreater(len(options), 30)
        self.check("wsbench ", ["run", "limit", "compare", "help"], program="wsbench")
        self.check("wsbench run ", presets, program="wsbench")
        self.check("wsbench run idle --", options, program="wsbench")


class Bash(Completions, Case):
    shell = "bash"

    def offer(self, program, line, socket):
        return self.run_shell(["bash", "--norc", "-c", BASH, "bash", program, line], socket)

    def behind_colon(self, *names):
        """Bash replaces what stands behind the colon alone."""
        return [name.split(":")[1] for name in names]


class Zsh(Completions, Case):
    shell = "zsh"

    def offer(self, program, line, socket):
        return self.run_shell(["zsh", "-f", "-c", ZSH, "zsh", program, line], socket)


    def test_a_shell_that_is_typed_at_completes(self):
        for typed, whole in (("wsctl und", "undrain"), ("wsctl clients --us", "--user"),
                             ("wsbench run --rand", "--random-channels")):
            self.assertEqual(self.run_shell(["zsh", "-f", "-c", ZPTY, "zsh", typed, whole],
                                            "/nowhere/control.sock"), ["completed"])


class Fish(Completions, Case):
    shell = "fish"

    def offer(self, program, line, socket):
        source = "source $FOLDER/%s.fish; complete -C '%s'" % (program, line)
        with_help = self.run_shell(["fish", "--no-config", "-c", source], socket)
        return sorted(word.split("\t")[0] for word in with_help)


if __name__ == "__main__":
    unittest.main()
