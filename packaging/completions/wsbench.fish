# fish completion for wsbench(1): commands, presets and options are what `wsbench help` says.

function __wsbench_offer
    set -l words (commandline -opc)
    if string match -q -- '-*' (commandline -ct)
        $words[1] help 2>/dev/null | sed -nE 's/^  (--[a-z-]+=?).*/\1/p'
    else if test (count $words) = 1
        $words[1] help 2>/dev/null | sed -nE 's/^(usage:|      ) wsbench ([a-z]+).*/\2/p'
    else if test (count $words) = 2; and test $words[2] = run
        $words[1] help 2>/dev/null | sed -nE 's/^  ([a-z]+) .*/\1/p'
    else
        __fish_complete_path (commandline -ct)
    end
end

complete -c wsbench -f -a '(__wsbench_offer)'
