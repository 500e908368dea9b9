/*
** easy.c - the yardstick for single sends: the same POST, N times, over one
** kept connection with curl_easy_perform. No token is signed and no reply is
** read; whatever a library adds to this is its own.
**   easy URL N
*/
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

static size_t drop(char *p, size_t size, size_t n, void *u)
{
    (void)p; (void)u;
    return size * n;
}

int main(int argc, char **argv)
{
    static const char body[] =
        "{\"fromNo\":\"+19876543210\",\"toNo\":\"+911234567890\"}";
    struct curl_slist *headers = NULL;
    CURL *easy;
    long n, status = 0;
    char auth[400] = "auth: ";
    int i;
    if (argc != 3)
        return 2;
    for (i = 6; i < 230; i++)
        auth[i] = 'x';          /* about as long as an HS256 token */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    easy = curl_easy_init();
    headers = curl_slist_append(headers, auth);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Accept: application/json");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)sizeof body - 1);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 10000L);
    for (n = atol(argv[2]); n > 0; n--) {
        if (curl_easy_perform(easy) != CURLE_OK)
            return 1;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200)
            return 1;
    }
    curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
    return 0;
}
