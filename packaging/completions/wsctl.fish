# fish completion for wsctl(1). Commands and options are what `wsctl help --json` says, so
# that they cannot drift from it; names come from the running server, if there is one.

function __wsctl_help
    set -l words (commandline -opc)
    $words[1] help --json 2>/dev/null | sed 's/{"command"/\n&/g; s/"options":\[/\n&/g'
end

function __wsctl_say # COMMAND KEY
    set -l words (commandline -opc)
    timeout 1 $words[1] $argv[1] --json 2>/dev/null | grep -oE '"'$argv[2]'":"?[^"\\\\,}]*' |
        sed 's/^[^:]*:"\{0,1\}//' | sort -u
end

function __wsctl_offer
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    set -l command
    set -l skip
    for word in $words[2..-1]
        if test -n "$skip"
            set skip
        else if string match -q -- '-*' $word
            contains -- $word -h --help -V --version -j --json -r --raw --once
            or string match -q -- '*=*' $word
            or set skip $word
        else if test -z "$command"
            set command $word
        end
    end
    set -l kind $command
    if test -n "$skip"
        set kind $skip
    else if string match -q -- '-*' $cur
        set kind options
    end
    switch "$kind"
        case options
            __wsctl_help | awk -v begin="{\"command\":\"$command\"" '
                /^"options"/ && (mine || !inside || /\]}$/) { print; next }
                { mine = index($0, begin) == 1; inside = 1 }' |
                grep -oE -- '"--?[a-zA-Z-]+"' | tr -d '"'
        case '' help
            __wsctl_help | sed -nE 's/^\{"command":"([^"]*)".*"summary":"([^"]*)".*/\1\t\2/p'
            printf 'help\tmore about one command\n'
        case -c --channel publish tail history presence channels
            __wsctl_say channels channel
        case -u --user
            __wsctl_say clients user
        case restart drain undrain
            __wsctl_say workers index
        case client kick
            __wsctl_say clients client
        case config
            timeout 1 $words[1] config 2>/dev/null |
                sed -n 's/^\[\(.*\)\]$/[\1/p; s/^\([a-z_0-9]*\) *=.*/\1/p' |
                awk '/^\[/ { s = substr($0, 2); next } { print s "." $0 }'
        case log-level
            printf '%s\n' error warning notice info debug
        case -s --socket --conf check
            __fish_complete_path $cur
        case --key # publish: a message's
            test "$command" = token; and __fish_complete_path $cur
    end
end

complete -c wsctl -f -a '(__wsctl_offer)'
