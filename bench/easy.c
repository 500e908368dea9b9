/*
** easy.c - the yardstick for single sends: the same POST, N times, over one
** kept connection with curl_easy_perform.
**   easy URL N
*/
#include "post.h"

int main(int argc, char **argv)
{
    struct curl_slist *headers;
    CURL *easy;
    long n;
    if (argc != 3)
        return 2;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    headers = fixed_headers();
    easy = fixed_post(argv[1], headers);
    for (n = atol(argv[2]); n > 0; n--)
        if (easy == NULL || !is_ok(easy, curl_easy_perform(easy)))
            return 1;
    curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
    return 0;
}
