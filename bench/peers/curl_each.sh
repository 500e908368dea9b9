# One curl process a message: curl_each.sh URL N
set -e
token=$(printf '%216s' '' | tr ' ' x)
i=0
while [ $i -lt "$2" ]; do
  i=$((i + 1))
  curl --fail --silent --output /dev/null --header "auth: $token" \
    --header 'Content-Type: application/json' --header 'Accept: application/json' \
    --data "{\"fromNo\":\"+19876543210\",\"toNo\":\"+91$((1000000000 + i))\"}" "$1"
done
