#!/bin/sh
# Runs the slices of the native campaigns at the same time: mostly they wait for processes to die.
# Arguments: the folder with the programs, an argument for those that have slices of several sizes (it
# may be empty), and their names. Prints the last line of each program; of one that fails, 60 lines.
folder=$1
size=$2
shift 2
for name in "$@"; do
    (
        case $name in
        crash_test | interleave_test | losses_test) "$folder/$name" $size ;;
        *) "$folder/$name" ;;
        esac >"$folder/$name.log" 2>&1 </dev/null
        echo $? >"$folder/$name.status"
    ) &
done
wait
failed=0
for name in "$@"; do
    status=$(cat "$folder/$name.status")
    rm -f "$folder/$name.status"
    if [ "$status" = 0 ]; then
        tail -n 1 "$folder/$name.log"
    else
        echo "$name failed (status ${status:-unknown}):" >&2
        tail -n 60 "$folder/$name.log" >&2
        failed=1
    fi
done
exit $failed
