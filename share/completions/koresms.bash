_koresms() {
    local IFS=$' \t\n'
    local args cur prev cmd opts arg
    args=("${COMP_WORDS[@]}")
    cur="${COMP_WORDS[COMP_CWORD]}"
    prev="${COMP_WORDS[COMP_CWORD-1]}"
    opts="-h --help --version"

    args=("${args[@]:1}")
    for arg in "${args[@]}"; do
        case "$arg" in
            send)
                cmd="send"
                opts="$opts -h --help --to --from --id --timeout --store --json --dry-run --verbose"
                break
                ;;
            send-many)
                cmd="send-many"
                opts="$opts -h --help --from --to-column --concurrency --timeout --rest --unknown --skip-invalid --unique --dry-run --json --quiet --verbose"
                break
                ;;
            campaign)
                cmd="campaign"
                opts="$opts -h --help"
                args=("${args[@]:1}")
                for arg in "${args[@]}"; do
                    case "$arg" in
                        import)
                            cmd="$cmd import"
                            opts="$opts -h --help --store --name --from --to-column --expires --start"
                            break
                            ;;
                        run)
                            cmd="$cmd run"
                            opts="$opts -h --help --store --all --stay --until --concurrency --json"
                            break
                            ;;
                        status)
                            cmd="$cmd status"
                            opts="$opts -h --help --store --watch --json"
                            break
                            ;;
                        pause)
                            cmd="$cmd pause"
                            opts="$opts -h --help --store"
                            break
                            ;;
                        resume)
                            cmd="$cmd resume"
                            opts="$opts -h --help --store --accept"
                            break
                            ;;
                        cancel)
                            cmd="$cmd cancel"
                            opts="$opts -h --help --store"
                            break
                            ;;
                        resolve)
                            cmd="$cmd resolve"
                            opts="$opts -h --help --store --unknown --rejected --code --yes"
                            break
                            ;;
                        export)
                            cmd="$cmd export"
                            opts="$opts -h --help --store --state --json"
                            break
                            ;;
                        suppress)
                            cmd="$cmd suppress"
                            opts="$opts -h --help --store --remove"
                            break
                            ;;
                        quota)
                            cmd="$cmd quota"
                            opts="$opts -h --help --store --per-minute --per-hour"
                            break
                            ;;
                        schema)
                            cmd="$cmd schema"
                            opts="$opts -h --help --dialect"
                            break
                            ;;
                    esac
                done
                break
                ;;
            token)
                cmd="token"
                opts="$opts -h --help --curl"
                break
                ;;
            check)
                cmd="check"
                opts="$opts -h --help --json"
                break
                ;;
            sandbox)
                cmd="sandbox"
                opts="$opts -h --help --port --plain-port --listen --env --per-minute --enforce-jti"
                break
                ;;
            completion)
                cmd="completion"
                opts="$opts -h --help"
                break
                ;;
            help)
                cmd="help"
                opts="$opts -h --help"
                break
                ;;
        esac
    done

    case "$cmd" in
        '')
            COMPREPLY=($(compgen -W "send send-many campaign token check sandbox completion help" -- "$cur"))
            ;;
        'send')
            case "$prev" in
                --to)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --from)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --id)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'send-many')
            case "$prev" in
                --from)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --to-column)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --concurrency)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --rest)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --unknown)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign')
            COMPREPLY=($(compgen -W "import run status pause resume cancel resolve export suppress quota schema" -- "$cur"))
            ;;
        'campaign import')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --name)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --from)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --to-column)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --expires)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign run')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --until)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --concurrency)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign status')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign pause')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign resume')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign cancel')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign resolve')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --unknown)
                    COMPREPLY=($(compgen -W "resend skip" -- "$cur"))
                    return 0
                    ;;
                --rejected)
                    COMPREPLY=($(compgen -W "retry" -- "$cur"))
                    return 0
                    ;;
                --code)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --yes)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign export')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --state)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign suppress')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign quota')
            case "$prev" in
                --store)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --per-minute)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --per-hour)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'campaign schema')
            case "$prev" in
                --dialect)
                    COMPREPLY=($(compgen -W "sqlite postgres" -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'sandbox')
            case "$prev" in
                --port)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --plain-port)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --listen)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --env)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --per-minute)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
    esac

    if [[ "$cur" = -* ]]; then
        COMPREPLY=($(compgen -W "$opts" -- "$cur"))
    fi
}

complete -F _koresms -o bashdefault -o default koresms
