function __fish_koresms_print_command
    set -l cmdline (commandline -poc)
    set -l cmd
    set -e cmdline[1]
    for arg in $cmdline
        switch $arg
            case send
                set cmd $cmd send
                break
            case send-many
                set cmd $cmd send-many
                break
            case campaign
                set cmd $cmd campaign
                set -e cmdline[1]
                for arg in $cmdline
                    switch $arg
                        case import
                            set cmd $cmd import
                            break
                        case run
                            set cmd $cmd run
                            break
                        case status
                            set cmd $cmd status
                            break
                        case pause
                            set cmd $cmd pause
                            break
                        case resume
                            set cmd $cmd resume
                            break
                        case cancel
                            set cmd $cmd cancel
                            break
                        case resolve
                            set cmd $cmd resolve
                            break
                        case export
                            set cmd $cmd export
                            break
                        case suppress
                            set cmd $cmd suppress
                            break
                        case quota
                            set cmd $cmd quota
                            break
                        case schema
                            set cmd $cmd schema
                            break
                    end
                end
                break
            case token
                set cmd $cmd token
                break
            case check
                set cmd $cmd check
                break
            case sandbox
                set cmd $cmd sandbox
                break
            case completion
                set cmd $cmd completion
                break
            case help
                set cmd $cmd help
                break
        end
    end
    echo "$cmd"
end

function __fish_koresms_using_command
    test (__fish_koresms_print_command) = "$argv"
    and return 0
    or return 1
end

function __fish_koresms_seen_command
    string match -q "$argv*" (__fish_koresms_print_command)
    and return 0
    or return 1
end

complete -c koresms -n '__fish_koresms_using_command' -xa 'send' -d 'Send one message'
complete -c koresms -n '__fish_koresms_using_command' -xa 'send-many' -d 'Send many messages, from CSV or JSON lines'
complete -c koresms -n '__fish_koresms_using_command' -xa 'campaign' -d 'Send many messages durably: a store keeps what became of each'
complete -c koresms -n '__fish_koresms_using_command' -xa 'token' -d 'Print a signed token, for the auth header of another client'
complete -c koresms -n '__fish_koresms_using_command' -xa 'check' -d 'Find out what is wrong with the configuration, without sending'
complete -c koresms -n '__fish_koresms_using_command' -xa 'sandbox' -d 'Run a local stand-in of the platform'
complete -c koresms -n '__fish_koresms_using_command' -xa 'completion' -d 'Print the completions of a shell'
complete -c koresms -n '__fish_koresms_using_command' -xa 'help'
complete -c koresms -s h -l help -d 'Show this help message and exit'
complete -c koresms -l version -d 'Print the version and exit; with --verbose also those of Lua and the libraries'

complete -c koresms -n '__fish_koresms_seen_command send' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command send' -l to -r -d 'The recipient, E.164: +911234567890'
complete -c koresms -n '__fish_koresms_seen_command send' -l from -r -d 'The sender, E.164; default: KORESMS_FROM'
complete -c koresms -n '__fish_koresms_seen_command send' -l id -r -d 'Your own id of the message; default: a random one'
complete -c koresms -n '__fish_koresms_seen_command send' -l timeout -r -d 'For a message, its repeats included; default: KORESMS_TIMEOUT, else 10'
complete -c koresms -n '__fish_koresms_seen_command send' -l store -r -d 'Share the quota of a store of messages, and keep the result there'
complete -c koresms -n '__fish_koresms_seen_command send' -l json -d 'Print the result as one JSON object'
complete -c koresms -n '__fish_koresms_seen_command send' -l dry-run -d 'Check configuration and numbers, sign, send nothing'
complete -c koresms -n '__fish_koresms_seen_command send' -l verbose -d 'Print attempts, repeats, pauses and verdicts, too'

complete -c koresms -n '__fish_koresms_seen_command send-many' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l from -r -d 'The sender of rows that name none, E.164; default: KORESMS_FROM'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l to-column -r -d 'The column, or key, that has the recipient; default: to'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l concurrency -r -d 'Messages in flight at most, 1 to 1024; default: 16'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l timeout -r -d 'For a message, its repeats included; default: KORESMS_TIMEOUT, else 10'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l rest -r -d 'Write rows that can be sent later to this file, as they came'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l unknown -r -d 'Write rows of which nobody knows whether they were sent to this file'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l skip-invalid -d 'Send the good rows although some are bad'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l unique -d 'Send to each recipient once: skip later rows'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l dry-run -d 'Check everything, sign, show the least time it takes; send nothing'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l json -d 'Print each result as a JSON object'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l quiet -d 'Print no results of accepted messages, and no progress'
complete -c koresms -n '__fish_koresms_seen_command send-many' -l verbose -d 'Print attempts, repeats, pauses and verdicts, too'

complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'import' -d 'Put the rows of a file into a campaign'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'run' -d 'Send what is due in campaigns: a worker'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'status' -d 'Show how far campaigns have come'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'pause' -d 'Have a campaign wait'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'resume' -d 'Have a campaign run: workers take its messages'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'cancel' -d 'End a campaign: what has not been sent is skipped'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'resolve' -d 'Decide about messages that are unknown, or were rejected'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'export' -d 'Print the messages of a campaign'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'suppress' -d 'Keep numbers from getting anything out of this store'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'quota' -d 'Set, or show, how many requests leave this store in a minute and an hour'
complete -c koresms -n '__fish_koresms_using_command campaign' -xa 'schema' -d 'Print the SQL that makes a store, for a migration tool'
complete -c koresms -n '__fish_koresms_seen_command campaign' -s h -l help -d 'Show this help message and exit'

complete -c koresms -n '__fish_koresms_seen_command campaign import' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign import' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign import' -l name -r -d 'Of the campaign'
complete -c koresms -n '__fish_koresms_seen_command campaign import' -l from -r -d 'The sender of rows that name none, E.164; default: KORESMS_FROM'
complete -c koresms -n '__fish_koresms_seen_command campaign import' -l to-column -r -d 'The column, or key, that has the recipient; default: to'
complete -c koresms -n '__fish_koresms_seen_command campaign import' -l expires -r -d 'When what has not been sent is not sent any more (RFC 3339 with a zone)'
complete -c koresms -n '__fish_koresms_seen_command campaign import' -l start -d 'Have it run once it is imported; else it is paused'

complete -c koresms -n '__fish_koresms_seen_command campaign run' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign run' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign run' -l all -d 'All campaigns that run, the outbox among them'
complete -c koresms -n '__fish_koresms_seen_command campaign run' -l stay -d 'Go on waiting for messages'
complete -c koresms -n '__fish_koresms_seen_command campaign run' -l until -r -d 'Start nothing more at HH:MM (local), or at a time such as 2026-11-30T20:00:00Z'
complete -c koresms -n '__fish_koresms_seen_command campaign run' -l concurrency -r -d 'Messages in flight at most, 1 to 1024; default: 16'
complete -c koresms -n '__fish_koresms_seen_command campaign run' -l json -d 'Print each result as a JSON object'

complete -c koresms -n '__fish_koresms_seen_command campaign status' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign status' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign status' -l watch -d 'Go on until interrupted'
complete -c koresms -n '__fish_koresms_seen_command campaign status' -l json -d 'Print a JSON object for each campaign'

complete -c koresms -n '__fish_koresms_seen_command campaign pause' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign pause' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'

complete -c koresms -n '__fish_koresms_seen_command campaign resume' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign resume' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign resume' -l accept -d 'The database was promoted or restored, and the last marks may be missing: go on all the same'

complete -c koresms -n '__fish_koresms_seen_command campaign cancel' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign cancel' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'

complete -c koresms -n '__fish_koresms_seen_command campaign resolve' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign resolve' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign resolve' -l unknown -xa 'resend skip'
complete -c koresms -n '__fish_koresms_seen_command campaign resolve' -l rejected -xa 'retry'
complete -c koresms -n '__fish_koresms_seen_command campaign resolve' -l code -r -d 'With --rejected: only those with this code'
complete -c koresms -n '__fish_koresms_seen_command campaign resolve' -l yes -r -d 'Do not ask: this many, as was shown'

complete -c koresms -n '__fish_koresms_seen_command campaign export' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign export' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign export' -l state -r -d 'Only those in this state'
complete -c koresms -n '__fish_koresms_seen_command campaign export' -l json -d 'Print a JSON object for each message'

complete -c koresms -n '__fish_koresms_seen_command campaign suppress' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign suppress' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign suppress' -l remove -d 'Take them off the list'

complete -c koresms -n '__fish_koresms_seen_command campaign quota' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign quota' -l store -r -d 'A file of SQLite, or postgres://...; default: KORESMS_STORE'
complete -c koresms -n '__fish_koresms_seen_command campaign quota' -l per-minute -r
complete -c koresms -n '__fish_koresms_seen_command campaign quota' -l per-hour -r

complete -c koresms -n '__fish_koresms_seen_command campaign schema' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command campaign schema' -l dialect -xa 'sqlite postgres'

complete -c koresms -n '__fish_koresms_seen_command token' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command token' -l curl -d 'Print a curl command that sends one message'

complete -c koresms -n '__fish_koresms_seen_command check' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command check' -l json -d 'Print each step as a JSON object with step, state, text'

complete -c koresms -n '__fish_koresms_seen_command sandbox' -s h -l help -d 'Show this help message and exit'
complete -c koresms -n '__fish_koresms_seen_command sandbox' -l port -r -d 'HTTPS port; default: a free one'
complete -c koresms -n '__fish_koresms_seen_command sandbox' -l plain-port -r -d 'HTTP port, for the page; default: the one after --port, or a free one'
complete -c koresms -n '__fish_koresms_seen_command sandbox' -l listen -r -d 'The address to listen on; default: 127.0.0.1'
complete -c koresms -n '__fish_koresms_seen_command sandbox' -l env -r -d 'Write the environment to this file, too'
complete -c koresms -n '__fish_koresms_seen_command sandbox' -l per-minute -r -d 'Refuse more requests than this a minute; default: no limit'
complete -c koresms -n '__fish_koresms_seen_command sandbox' -l enforce-jti -d 'Refuse a token without jti, and one seen before'

complete -c koresms -n '__fish_koresms_seen_command completion' -s h -l help -d 'Show this help message and exit'

complete -c koresms -n '__fish_koresms_seen_command help' -s h -l help -d 'Show this help message and exit'
