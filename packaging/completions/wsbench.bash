# bash completion for wsbench(1): commands, presets and options are what `wsbench help` says.

_wsbench() {
	local bench=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} help
	COMPREPLY=()
	# Behind "--option" "=", where bash splits, any file may stand.
	if [ "$cur" = = ] || [ "${COMP_WORDS[COMP_CWORD - 1]}" = = ]; then
		mapfile -t COMPREPLY < <(compgen -f -- "${cur#=}")
		return
	fi
	help=$("$bench" help 2>/dev/null)
	if [[ $cur == -* ]]; then
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -W "$(sed -nE 's/^  (--[a-z-]+=?).*/\1/p' <<<"$help")" -- "$cur")
	elif [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -nE 's/^(usage:|      ) wsbench ([a-z]+).*/\2/p' <<<"$help")" -- "$cur")
	elif [ "$COMP_CWORD" = 2 ] && [ "${COMP_WORDS[1]}" = run ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -nE 's/^  ([a-z]+) .*/\1/p' <<<"$help")" -- "$cur")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}

complete -F _wsbench wsbench
