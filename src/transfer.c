/*
** transfer.c - HTTP/2, which libcurl speaks.
**
** libcurl sends a POST again by itself when a kept connection dies before a
** reply byte, or refuses its stream. The pre-request callback, called each time
** before request bytes leave, refuses the second time; zero calls prove that
** nothing left.
**
** No callback touches Lua: they write into memory that the engine's userdata
** owns.
*/
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "request.h"

/* Without the pre-request callback (or where the build asks for it) the body
   is given by a callback that cannot rewind: libcurl then cannot repeat it. */
#if KSMS_CURL_GE(80, 0) && !defined(KSMS_NO_PREREQ)
#define HAVE_PREREQ         1
#else
#define HAVE_PREREQ         0
#endif

#define AUTH_PREFIX         "auth: "

static char content_type[] = "Content-Type: application/json";
static char accept_json[] = "Accept: application/json";

#if HAVE_PREREQ

static int on_start(void *p, char *to, char *from, int to_port, int from_port)
{
    slot *s = (slot *)p;
    (void)to; (void)from; (void)to_port; (void)from_port;
    if (s->starts > 0)
        return CURL_PREREQFUNC_ABORT;
    s->starts++;
    return CURL_PREREQFUNC_OK;
}

#else

/* Counts request heads as they leave; the text goes nowhere. */
static int on_debug(CURL *easy, curl_infotype type, char *text, size_t n,
                    void *p)
{
    slot *s = (slot *)p;
    (void)easy;
    if (type == CURLINFO_HEADER_OUT && n >= 5 && memcmp(text, "POST ", 5) == 0)
        s->starts++;
    return 0;
}

/* The body, once. It leaves after the head, so refusing it here still keeps
   the server from ever having read a whole request: where libcurl has begun
   anew, or a reply came first. */
static size_t on_read(char *to, size_t size, size_t n, void *p)
{
    slot *s = (slot *)p;
    size_t left = s->request_len - s->request_read;
    if (s->starts > 1 || (s->request_read == 0 && s->reader.head.bytes > 0))
        return CURL_READFUNC_ABORT;
    n = size * n < left ? size * n : left;
    memcpy(to, s->request + s->request_read, n);
    s->request_read += n;
    return n;
}

#endif

static size_t on_header(char *line, size_t size, size_t n, void *p)
{
    slot *s = (slot *)p;
    s->fault = ksms_head_line(&s->reader.head, line, size * n);
    return s->fault == NULL ? size * n : 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *p)
{
    slot *s = (slot *)p;
    n *= size;
    if (n > s->reader.cap - s->reader.body.n)
        s->fault = "reply body too large";
    else if (!ksms_buffer_add(&s->reader.body, data, n))
        s->fault = "no memory for the reply";
    return s->fault == NULL ? n : 0;
}

/* Sets all that never changes on a new easy handle. */
static CURLcode prepare(slot *s)
{
    engine *e = s->owner;
    CURL *easy = s->easy;
    CURLcode rc = ksms_connection(easy, e, s->error);
#define set(option, value) \
    (rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value))
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_USERAGENT, KSMS_USER_AGENT);
    set(CURLOPT_HTTPHEADER, &s->auth);
    set(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    set(CURLOPT_PIPEWAIT, 1L);
    if (e->max_idle > 0)
        set(CURLOPT_MAXAGE_CONN, e->max_idle < 1 ? 1L : (long)e->max_idle);
    else
        set(CURLOPT_FORBID_REUSE, 1L);
    set(CURLOPT_HEADERFUNCTION, on_header);
    set(CURLOPT_HEADERDATA, s);
    set(CURLOPT_WRITEFUNCTION, on_body);
    set(CURLOPT_WRITEDATA, s);
    set(CURLOPT_PRIVATE, s);
    set(CURLOPT_POST, 1L);
#if HAVE_PREREQ
    set(CURLOPT_PREREQFUNCTION, on_start);
    set(CURLOPT_PREREQDATA, s);
    set(CURLOPT_POSTFIELDS, s->request);
#else
    set(CURLOPT_READFUNCTION, on_read);
    set(CURLOPT_READDATA, s);
    set(CURLOPT_DEBUGFUNCTION, on_debug);
    set(CURLOPT_DEBUGDATA, s);
    set(CURLOPT_VERBOSE, 1L);
#endif
    return rc;
}

/* Sets on the easy handle what differs from its last transfer. */
static CURLcode adjust(slot *s, int fresh)
{
    CURL *easy = s->easy;
    long timeout = ksms_ms_until(s->deadline), length = (long)s->request_len;
    CURLcode rc = CURLE_OK;
    if (s->timeout_set != timeout)
        set(CURLOPT_TIMEOUT_MS, timeout);
    if (s->connect_set != s->connect_timeout)
        set(CURLOPT_CONNECTTIMEOUT_MS, s->connect_timeout);
    if (s->length_set != length)
        set(CURLOPT_POSTFIELDSIZE, length);
    if (s->fresh_set != fresh)
        set(CURLOPT_FRESH_CONNECT, (long)fresh);
#undef set
    s->timeout_set = timeout;
    s->connect_set = s->connect_timeout;
    s->length_set = length;
    s->fresh_set = fresh;
    return rc;
}

static int transfer_fill(slot *s, const char *token, size_t token_len,
                         const char *body, size_t body_len)
{
    struct curl_slist *fields = s->owner->fields;
    fields[0].data = content_type;
    fields[0].next = &fields[1];
    fields[1].data = accept_json;
    s->out.n = 0;
    if (!ksms_buffer_add(&s->out, AUTH_PREFIX, sizeof AUTH_PREFIX - 1)
        || !ksms_buffer_add(&s->out, token, token_len)
        || !ksms_buffer_add(&s->out, "", 1))
        return 0;
    s->auth.data = s->out.bytes;
    s->auth.next = &s->owner->fields[0];
    memcpy(s->request, body, body_len);
    s->request_len = body_len;
    return 1;
}

static const char *transfer_launch(slot *s)
{
    engine *e = s->owner;
    CURLcode rc = CURLE_OK;
    CURLMcode mc;
    if (s->easy == NULL) {
        if ((s->easy = curl_easy_init()) == NULL)
            return "libcurl gave no handle";
        s->timeout_set = s->connect_set = s->length_set = s->fresh_set = -1;
        rc = prepare(s);
    }
    s->request_read = 0;
    if (rc == CURLE_OK)
        rc = adjust(s, e->tainted);
    if (rc != CURLE_OK) {
        curl_easy_cleanup(s->easy);
        s->easy = NULL;
        return curl_easy_strerror(rc);
    }
    mc = curl_multi_add_handle(e->multi, s->easy);
    return mc == CURLM_OK ? NULL : curl_multi_strerror(mc);
}

static void transfer_ground(slot *s)
{
    /* The only failures here are handles that are none. */
    (void)curl_multi_remove_handle(s->owner->multi, s->easy);
}

/* Whether a transfer went over HTTP/2, as far as libcurl tells. */
static int is_http2(CURL *easy)
{
    long version = 0;
    return curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version) == CURLE_OK
        && version >= CURL_HTTP_VERSION_2_0;
}

static void land(slot *s, CURLcode code)
{
    engine *e = s->owner;
    if (code == CURLE_OK && !s->reader.head.done) {
        /* libcurl takes a connection that ends in the head for its end. */
        s->lost = "the connection ended within the head of the reply";
        code = CURLE_RECV_ERROR;
    }
    if (code == CURLE_ABORTED_BY_CALLBACK && s->starts > 0)
        s->lost = "the connection died without an answer";
#if !HAVE_PREREQ
    if (code == CURLE_OK && s->request_read < s->request_len) {
        s->lost = "a reply came before the request had left";
        code = CURLE_RECV_ERROR;
    }
    /* A write that failed half-way is not reported as one. */
    if (code == CURLE_SEND_ERROR && s->starts == 0)
        s->starts = 1;
#endif
    if (code != CURLE_OK) {
        s->phase = ksms_phase(e, s->easy);
        /* A failed request leaves its connection to the others. */
        e->tainted = 1;
    } else if (!is_http2(s->easy)) {
        /* Of a server without HTTP/2: libcurl would use a connection again that
           has ended meanwhile, or that holds more than it read. */
        e->tainted = 1;
    }
    transfer_ground(s);
    ksms_finish(s, code);
}

/* libcurl has lost its way: every transfer in the air ends here. */
static void fail_all(engine *e)
{
    int i;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        if (s->state == KSMS_FLYING) {
            transfer_ground(s);
            s->lost = "libcurl gave up all transfers";
            ksms_finish(s, CURLE_RECV_ERROR);
        }
    }
}

static void perform(engine *e)
{
    CURLMsg *message;
    int running, left;
    if (curl_multi_perform(e->multi, &running) != CURLM_OK) {
        fail_all(e);
        return;
    }
    while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
        char *p = NULL;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE
            && curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &p)
               == CURLE_OK && p != NULL)
            land((slot *)(void *)p, code);
    }
}

/* Milliseconds to wait at most. libcurl wakes at the deadlines it knows, which
   may have been put off since. */
static double until_deadline(const engine *e, double ms)
{
    int i;
    for (i = 0; i < e->count; i++) {
        const slot *s = e->slots[i];
        if (s->state == KSMS_FLYING && ms > ksms_ms_until(s->deadline))
            ms = (double)ksms_ms_until(s->deadline);
    }
    return ms;
}

/* Ends the connections that have failed a request, once nobody uses one. */
static void renew(engine *e)
{
    CURLM *fresh;
    if (!e->tainted || e->flying > 0 || (fresh = ksms_new_multi()) == NULL)
        return;
    (void)curl_multi_cleanup(e->multi);
    e->multi = fresh;
    e->tainted = 0;
}

static void transfer_move(engine *e, double ms)
{
    perform(e);
    if (e->ended == NULL && ms > 0) {
        ms = until_deadline(e, ms);
        if (curl_multi_poll(e->multi, NULL, 0,
                            ms > 1e9 ? 1000000000 : (int)ms, NULL) != CURLM_OK)
            fail_all(e);
        else if (e->flying > 0)
            perform(e);
    }
    renew(e);
}

static void transfer_extend(slot *s, long ms)
{
    s->timeout_set += ms;
    s->connect_set += ms;
    /* Where libcurl refuses, the transfer keeps its old time. */
    (void)curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, s->timeout_set);
    (void)curl_easy_setopt(s->easy, CURLOPT_CONNECTTIMEOUT_MS, s->connect_set);
}

static void transfer_forget(engine *e)
{
    int i;
    for (i = 0; i < e->count; i++)
        e->slots[i]->easy = NULL;
    e->tainted = 0;
}

static void transfer_shut(engine *e)
{
    int i;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        if (s->easy == NULL)
            continue;
        if (s->state == KSMS_FLYING)
            transfer_ground(s);
        curl_easy_cleanup(s->easy);
    }
}

const ksms_way ksms_transfer = {
    transfer_fill, transfer_launch, transfer_ground, transfer_move,
    transfer_extend, transfer_forget, transfer_shut
};
