/*
** multi.c - the yardstick for bulk: N fixed POSTs over one libcurl multi
** handle, C at a time, with curl_multi_poll. The limit for any client that
** leaves HTTP to libcurl.
**   multi URL N C
*/
#include "post.h"

int main(int argc, char **argv)
{
    fleet f;
    int running;
    if (argc != 4)
        return 2;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    f.multi = curl_multi_init();
    if (!fleet_start(&f, argv[1], atol(argv[2]), atoi(argv[3])))
        return 1;
    while (f.done < f.wanted) {
        if (curl_multi_perform(f.multi, &running) != CURLM_OK
            || !fleet_collect(&f))
            return 1;
        if (f.done < f.wanted
            && curl_multi_poll(f.multi, NULL, 0, 1000, NULL) != CURLM_OK)
            return 1;
    }
    fleet_end(&f);
    return 0;
}
