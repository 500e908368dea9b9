/*
** multi.c - the yardstick for bulk: N fixed POSTs over one libcurl multi
** handle, C at a time. No token is signed and no reply is read: the limit for
** any client that is built on libcurl.
**   multi URL N C
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    CURLM *multi;
    long n, started = 0, done = 0;
    int c, i, running, left;
    char auth[400] = "auth: ";
    if (argc != 4)
        return 2;
    n = atol(argv[2]);
    c = atoi(argv[3]);
    memset(auth + 6, 'x', 224);         /* about as long as an HS256 token */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    headers = curl_slist_append(headers, auth);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Accept: application/json");
    headers = curl_slist_append(headers, "Expect:");
    for (i = 0; i < c && started < n; i++, started++) {
        CURL *easy = curl_easy_init();
        curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)sizeof body - 1);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 10000L);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
        if (strncmp(argv[1], "https", 5) == 0)
            curl_easy_setopt(easy, CURLOPT_CAINFO, getenv("CA_FILE"));
        curl_multi_add_handle(multi, easy);
    }
    while (done < n) {
        CURLMsg *m;
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            return 1;
        while ((m = curl_multi_info_read(multi, &left)) != NULL) {
            CURL *easy = m->easy_handle;
            long status = 0;
            if (m->msg != CURLMSG_DONE || m->data.result != CURLE_OK)
                return 1;
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
            if (status != 200)
                return 1;
            done++;
            curl_multi_remove_handle(multi, easy);
            if (started < n) {
                started++;
                curl_multi_add_handle(multi, easy);
            } else {
                curl_easy_cleanup(easy);
            }
        }
        if (done < n && curl_multi_poll(multi, NULL, 0, 1000, NULL) != CURLM_OK)
            return 1;
    }
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    return 0;
}
