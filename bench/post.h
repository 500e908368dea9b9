/*
** post.h - what the yardsticks share: one fixed POST, and a fleet of easy
** handles that send it over and over. No token is signed and no reply is read:
** whatever a library adds to this is its own.
*/
#ifndef bench_post_h
#define bench_post_h

#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#define BODY    "{\"fromNo\":\"+19876543210\",\"toNo\":\"+911234567890\"}"

static inline size_t drop(char *p, size_t size, size_t n, void *u)
{
    (void)p; (void)u;
    return size * n;
}

/* The headers of the real request; the token is as long as an HS256 one. */
static inline struct curl_slist *fixed_headers(void)
{
    char auth[6 + 216 + 1] = "auth: ";
    struct curl_slist *headers;
    memset(auth + 6, 'x', sizeof auth - 7);
    headers = curl_slist_append(NULL, auth);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Accept: application/json");
    return curl_slist_append(headers, "Expect:");
}

/* An easy handle with the POST. CA_FILE in the environment is for https. */
static inline CURL *fixed_post(const char *url, struct curl_slist *headers)
{
    CURL *easy = curl_easy_init();
    const char *ca = getenv("CA_FILE");
    if (easy == NULL)
        return NULL;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, BODY);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)sizeof BODY - 1);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 10000L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    if (strncmp(url, "https:", 6) == 0 && ca != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
        /* A directory as well would keep libcurl from reading the file once. */
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    return easy;
}

static inline int is_ok(CURL *easy, CURLcode code)
{
    long status = 0;
    return code == CURLE_OK
        && curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK
        && status == 200;
}

typedef struct fleet {
    CURLM *multi;
    struct curl_slist *headers;
    long wanted, started, done;
} fleet;

/* Puts up to 'c' transfers into the air; 0 where that fails. */
static inline int fleet_start(fleet *f, const char *url, long n, int c)
{
    f->headers = fixed_headers();
    f->wanted = n;
    for (f->started = f->done = 0; f->started < c && f->started < n;
         f->started++) {
        CURL *easy = fixed_post(url, f->headers);
        if (easy == NULL || curl_multi_add_handle(f->multi, easy) != CURLM_OK)
            return 0;
    }
    return 1;
}

/* Every handle that has ended starts anew while messages are left. */
static inline int fleet_collect(fleet *f)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(f->multi, &left)) != NULL) {
        CURL *easy = m->easy_handle;
        if (m->msg != CURLMSG_DONE || !is_ok(easy, m->data.result))
            return 0;
        f->done++;
        curl_multi_remove_handle(f->multi, easy);
        if (f->started < f->wanted) {
            f->started++;
            if (curl_multi_add_handle(f->multi, easy) != CURLM_OK)
                return 0;
        } else {
            curl_easy_cleanup(easy);
        }
    }
    return 1;
}

static inline void fleet_end(fleet *f)
{
    curl_multi_cleanup(f->multi);
    curl_slist_free_all(f->headers);
}

#endif
