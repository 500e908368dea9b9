# Writes a configuration for `curl -Z`: curl_config.sh URL N
awk -v url="$1" -v n="$2" 'BEGIN {
  token = sprintf("%216s", ""); gsub(" ", "x", token)
  for (i = 1; i <= n; i++) {
    if (i > 1) print "next"
    print "url = \"" url "\""
    print "fail\nsilent\noutput = \"/dev/null\""
    print "header = \"auth: " token "\""
    print "header = \"Content-Type: application/json\""
    print "header = \"Accept: application/json\""
    printf "data = \"{\\\"fromNo\\\":\\\"+19876543210\\\",\\\"toNo\\\":\\\"+91%010d\\\"}\"\n", i
  }
}'
