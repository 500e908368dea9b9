#!/bin/sh
# Sends the rows of a file once a day; what could not go today goes tomorrow, and nobody twice.
#
#     30 9 * * *  sms  /usr/local/share/doc/koresms/examples/cron.sh /var/spool/sms
#
# The directory has new rows in *.csv (to,id). Rows for later and those of which nobody knows
# whether they arrived end up in files of their own. Mail from cron is a person's to read.
set -eu
cd "$1"

# One run at a time: a second one would send the same files.
exec 9>lock
flock -n 9 || { echo "the last run has not ended" >&2; exit 1; }

worst=0
for file in *.csv later/*.csv; do
  [ -e "$file" ] || continue
  name=$(basename "$file" .csv).$(date +%Y%m%d-%H%M%S).$$
  mkdir -p later done look
  # Moved first: whatever happens to this run, the next one does not begin with this file again.
  mv "$file" "done/$name.csv"
  status=0
  koresms send-many "done/$name.csv" --skip-invalid --json --rest "later/$name.csv" \
    --unknown "look/$name.csv" >"done/$name.jsonl" || status=$?
  case $status in
    0) ;;
    1 | 5) echo "$file: some were not sent; see done/$name.jsonl; later/$name.csv goes next time" ;;
    4) echo "$file: some may have arrived; a person looks at look/$name.csv" ;;
    *) echo "$file: nothing was sent (status $status)"; mv "done/$name.csv" "$file" ;;
  esac
  [ "$status" -le "$worst" ] || worst=$status
done
exit "$worst"
