# bash completion for wsctl(1). Commands and options are what `wsctl help --json` says, so
# that they cannot drift from it; names come from the running server, if there is one.

_wsctl_say() {
	local ctl=$1
	case $2 in
	commands)
		"$ctl" help --json 2>/dev/null | grep -o '"command":"[^"]*"' | cut -d'"' -f4
		echo help
		;;
	options) # of all, and of command $3
		"$ctl" help --json 2>/dev/null | sed 's/{"command"/\n&/g; s/"options":\[/\n&/g' |
			awk -v begin="{\"command\":\"$3\"" '
				/^"options"/ && (mine || !inside) { print; next }
				{ mine = index($0, begin) == 1; inside = 1 }
				/^"options".*\]}$/ { print }' |
			grep -oE -- '"--?[a-zA-Z-]+"' | tr -d '"'
		;;
	channels) timeout 1 "$ctl" channels --json 2>/dev/null | grep -o '"channel":"[^"\\]*"' | cut -d'"' -f4 ;;
	clients) timeout 1 "$ctl" clients --json 2>/dev/null | grep -o '"client":"[0-9a-f]*"' | cut -d'"' -f4 ;;
	users) timeout 1 "$ctl" clients --json 2>/dev/null | grep -o '"user":"[^"\\]*"' | cut -d'"' -f4 | sort -u ;;
	workers) timeout 1 "$ctl" workers --json 2>/dev/null | grep -o '"index":[0-9]*' | cut -d: -f2 ;;
	keys)
		timeout 1 "$ctl" config 2>/dev/null |
			sed -n 's/^\[\(.*\)\]$/[\1/p; s/^\([a-z_0-9]*\) *=.*/\1/p' |
			awk '/^\[/ { s = substr($0, 2); next } { print s "." $0 }'
		;;
	levels) printf '%s\n' error warning notice info debug ;;
	esac
}

# The kind of what stands behind an option of command $2, or is a command's argument.
_wsctl_kind() {
	case $1 in
	-c | --channel | publish | tail | history | presence | channels) echo channels ;;
	-u | --user) echo users ;;
	restart | drain | undrain) echo workers ;;
	client | kick) echo clients ;;
	config) echo keys ;;
	log-level) echo levels ;;
	help) echo commands ;;
	-s | --socket | --conf | check) echo files ;;
	--key) [ "$2" = token ] && echo files || echo nothing ;; # publish: a message's
	-n | --limit | -i | --interval | --for | --over | --ttl | --jti | --sub | --aud | --iss | \
		--channels | --subscribe | --publish) echo nothing ;;
	esac
}

_wsctl() {
	local ctl=${COMP_WORDS[0]} cur=${COMP_LINE:0:COMP_POINT} prev='' command='' kind='' skip=''
	local word colon words
	COMPREPLY=()
	# By blanks alone: a channel's name may have colons, at which bash splits.
	read -r -a words <<<"${cur% }"
	[[ $cur == *[[:space:]] ]] && words+=("")
	cur=${words[-1]}
	[ ${#words[@]} -gt 2 ] && prev=${words[-2]}
	for word in "${words[@]:1:${#words[@]}-2}"; do
		if [ -n "$skip" ]; then
			skip=''
		elif [[ $word == -* ]]; then
			[ -n "$(_wsctl_kind "$word")" ] && [[ $word != *=* ]] && skip=1
		elif [ -z "$command" ]; then
			command=$word
		fi
	done
	[[ $prev == -* ]] && kind=$(_wsctl_kind "$prev" "$command")
	if [ -z "$kind" ]; then
		if [[ $cur == -* ]]; then
			kind=options
		elif [ -z "$command" ]; then
			kind=commands
		else
			kind=$(_wsctl_kind "$command")
		fi
	fi
	case $kind in
	'' | nothing) return ;;
	files)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	while IFS= read -r word; do
		[[ $word == "$cur"* ]] || continue
		printf -v word %q "$word"
		COMPREPLY+=("$word")
	done < <(_wsctl_say "$ctl" "$kind" "$command")
	# What bash takes for the word begins behind the last colon.
	colon=${cur%"${cur##*:}"}
	if [ -n "$colon" ] && [[ $COMP_WORDBREAKS == *:* ]]; then
		COMPREPLY=("${COMPREPLY[@]#"$colon"}")
	fi
}

complete -F _wsctl wsctl
