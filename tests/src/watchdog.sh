# Stops what a test process started and removes its folder once the process is
# gone, however it went. The process holds the other end of our standard input,
# so end of file means that it no longer exists.
#
# The argument is the run's folder. Each folder inside may hold `pid` (a signal
# and a process group) and `cleanup` (a script).
folder=$1
exec 3<&0
(
    # Detached from whoever started the tests: killing cargo and all below it
    # leaves this one alive, also if nobody reads that it is ready.
    trap '' HUP INT PIPE TERM
    mkdir "$folder" && chmod 711 "$folder" || exit 1
    echo ready
    exec >/dev/null
    while read -r _; do :; done

    # A program about to start writes its `pid` before anything else. After the
    # rename it cannot, and gives up.
    gone=$folder.gone
    mv "$folder" "$gone"
    groups=
    for file in "$gone"/*/pid; do
        [ -e "$file" ] || continue
        [ -s "$file" ] || sleep 0.2
        read -r signal group <"$file" || continue
        kill -"$signal" -"$group" && kill -CONT -"$group" && groups="$groups $group"
    done
    # Ten seconds: after five PostgreSQL itself kills those of its processes
    # that a test had frozen. One that ended stays a zombie until it is reaped.
    tries=100
    while [ $tries -gt 0 ]; do
        left=
        for group in $groups; do
            kill -0 -"$group" || continue
            grep -q '^State:.Z' "/proc/$group/status" || left=1
        done
        [ -n "$left" ] || break
        tries=$((tries - 1))
        sleep 0.1
    done
    for group in $groups; do kill -KILL -"$group"; done

    for script in "$gone"/*/cleanup; do
        [ -e "$script" ] && sh "$script"
    done
    # A PostgreSQL that was killed leaves a segment of shared memory, named here.
    for file in "$gone"/*/data/postmaster.pid; do
        [ -e "$file" ] || continue
        set -- $(sed -n 7p "$file")
        ipcrm -m "$2"
    done
    tries=20
    while [ $tries -gt 0 ] && ! rm -rf "$gone"; do
        tries=$((tries - 1))
        sleep 0.1
    done
) <&3 2>/dev/null &
