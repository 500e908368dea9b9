/*
** wire.c - HTTP/1.1 over connections that libcurl makes.
**
** libcurl resolves the name, connects, tunnels through the proxy and secures;
** then the socket is ours, and one POST at a time goes over it. libcurl's own
** HTTP sends a POST again by itself when a kept connection dies before a reply
** byte; here a request is written once, whatever happens, and replies are read
** by the same strict reader as inside nginx.
**
** A link is one such connection. It is kept only after a complete, unambiguous
** reply, and used again only where nothing has arrived on it since.
*/
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "engine.h"
#include "request.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL        0           /* the engine holds SIGPIPE there */
#endif

#define PIECE               (16 * 1024) /* of a reply, read at once */

/* Seconds between two looks at all idle links. */
#define LOOK                1.0

enum link_state { CONNECTING, BUSY, IDLE };

struct ksms_link {
    engine *owner;
    CURL *easy;                 /* owns the connection */
    curl_socket_t fd;
    enum link_state state;
    int number;                 /* in the engine's array */
    slot *slot;                 /* the request that it carries */
    ksms_link *next;            /* on the stack of idle links */
    double since;               /* idle since */
    long timeout, connect_timeout;      /* as set on 'easy', ms */
    char error[CURL_ERROR_SIZE];
};

static void close_link(ksms_link *l)
{
    engine *e = l->owner;
    if (l->state == CONNECTING)
        e->connecting--;
#if !KSMS_CURL_GE(85, 0)
    /* There libcurl only puts the connection back among those it keeps, for
       minutes, and closes it when it next looks for dead ones: this makes it one. */
    if (l->fd != CURL_SOCKET_BAD)
        (void)shutdown(l->fd, SHUT_RDWR);
#endif
    if (l->easy != NULL) {
        /* The only failure here is a handle that is in no multi. */
        (void)curl_multi_remove_handle(e->multi, l->easy);
        curl_easy_cleanup(l->easy);
    }
    e->links[l->number] = e->links[--e->links_count];
    e->links[l->number]->number = l->number;
    free(l);
}

/* The request on a link has ended without an answer of use. */
static void lose(ksms_link *l, CURLcode code, const char *text)
{
    slot *s = l->slot;
    s->link = NULL;
    s->lost = text;
    close_link(l);
    ksms_finish(s, code);
}

/* The reply is complete, broken off, or refused. */
static void settle(ksms_link *l)
{
    slot *s = l->slot;
    const ksms_reader *r = &s->reader;
    if (r->state == KSMS_LOST) {
        lose(l, CURLE_RECV_ERROR, r->text);
        return;
    }
    if (r->state == KSMS_REFUSED) {
        s->fault = r->text;
        lose(l, CURLE_WEIRD_SERVER_REPLY, NULL);
        return;
    }
    s->link = NULL;
    if (r->reusable && s->sent == s->out.n && l->owner->max_idle > 0) {
        l->state = IDLE;
        l->slot = NULL;
        l->since = ksms_monotonic();
        l->next = l->owner->idle;
        l->owner->idle = l;
    } else {
        close_link(l);
    }
    ksms_finish(s, CURLE_OK);
}

/* Both leave CURLE_AGAIN where the socket is not ready. */

static CURLcode write_some(ksms_link *l, const char *data, size_t size, size_t *n)
{
    ssize_t done;
    if (!l->owner->direct)
        return curl_easy_send(l->easy, data, size, n);
    done = send(l->fd, data, size, MSG_NOSIGNAL);
    *n = done > 0 ? (size_t)done : 0;
    if (done >= 0)
        return CURLE_OK;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
         ? CURLE_AGAIN : CURLE_SEND_ERROR;
}

static CURLcode read_some(ksms_link *l, char *data, size_t size, size_t *n)
{
    ssize_t done;
    if (!l->owner->direct)
        return curl_easy_recv(l->easy, data, size, n);
    done = recv(l->fd, data, size, 0);
    *n = done > 0 ? (size_t)done : 0;
    if (done >= 0)
        return CURLE_OK;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
         ? CURLE_AGAIN : CURLE_RECV_ERROR;
}

static void send_out(ksms_link *l)
{
    slot *s = l->slot;
    s->starts = 1;
    while (s->sent < s->out.n) {
        size_t n = 0;
        CURLcode rc = write_some(l, s->out.bytes + s->sent, s->out.n - s->sent,
                                 &n);
        if (rc == CURLE_AGAIN)
            return;
        if (rc != CURLE_OK) {
            lose(l, CURLE_SEND_ERROR, "the connection broke while sending");
            return;
        }
        s->sent += n;
    }
}

static void read_in(ksms_link *l)
{
    slot *s = l->slot;
    char data[PIECE];
    for (;;) {
        size_t n = 0;
        CURLcode rc = read_some(l, data, sizeof data, &n);
        if (rc == CURLE_AGAIN)
            return;
        if (rc != CURLE_OK) {
            lose(l, CURLE_RECV_ERROR, "the connection was reset");
            return;
        }
        if (n == 0)
            ksms_reader_end(&s->reader);
        else
            ksms_reader_feed(&s->reader, data, n);
        if (s->reader.state >= KSMS_DONE) {
            settle(l);
            return;
        }
        /* A socket that gave less has no more; TLS may hold some back. */
        if (l->owner->direct && n < sizeof data)
            return;
    }
}

/* Has nothing arrived, not even the end, on a link that nobody asks? */
static int is_clean(ksms_link *l)
{
    char byte;
    size_t n;
    if (!l->owner->direct)
        return curl_easy_recv(l->easy, &byte, 1, &n) == CURLE_AGAIN;
    return recv(l->fd, &byte, 1, MSG_PEEK) < 0
        && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* Closes the idle links that have become too old: those at the stack's bottom. */
static void close_old(engine *e, double now)
{
    ksms_link **place = &e->idle, *l, *next;
    while (*place != NULL && now - (*place)->since < e->max_idle)
        place = &(*place)->next;
    l = *place;
    *place = NULL;
    for (; l != NULL; l = next) {
        next = l->next;
        close_link(l);
    }
    e->looked = now;
}

/* An idle link that may be used again, or NULL. */
static ksms_link *take_idle(engine *e)
{
    double now = ksms_monotonic();
    ksms_link *l;
    if (now - e->looked >= LOOK)
        close_old(e, now);
    while ((l = e->idle) != NULL) {
        e->idle = l->next;
        if (now - l->since < e->max_idle && is_clean(l))
            return l;
        close_link(l);
    }
    return NULL;
}

/* A link that connects for a slot; NULL, or what went wrong. */
static const char *open_link(slot *s)
{
    engine *e = s->owner;
    CURLcode rc;
    CURLMcode mc;
    ksms_link *l;
    if (!ksms_grow((void **)&e->links, &e->links_room, e->links_count + 1,
                   sizeof *e->links)
        || (l = (ksms_link *)calloc(1, sizeof *l)) == NULL)
        return "not enough memory";
    l->owner = e;
    l->fd = CURL_SOCKET_BAD;
    l->state = BUSY;
    l->number = e->links_count;
    e->links[e->links_count++] = l;
    if ((l->easy = curl_easy_init()) == NULL) {
        close_link(l);
        return "libcurl gave no handle";
    }
    l->timeout = ksms_ms_until(s->deadline);
    l->connect_timeout = s->connect_timeout;
    rc = ksms_connection(l->easy, e, l->error);
#define set(option, value) \
    (rc = rc != CURLE_OK ? rc : curl_easy_setopt(l->easy, option, value))
    set(CURLOPT_CONNECT_ONLY, 1L);
    set(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    set(CURLOPT_TIMEOUT_MS, l->timeout);
    set(CURLOPT_CONNECTTIMEOUT_MS, l->connect_timeout);
    set(CURLOPT_PRIVATE, l);
#undef set
    if (rc != CURLE_OK) {
        close_link(l);
        return curl_easy_strerror(rc);
    }
    mc = curl_multi_add_handle(e->multi, l->easy);
    if (mc != CURLM_OK) {
        close_link(l);
        return curl_multi_strerror(mc);
    }
    l->state = CONNECTING;
    e->connecting++;
    l->slot = s;
    s->link = l;
    return NULL;
}

/* libcurl has connected a link, or could not. */
static void connected(ksms_link *l, CURLcode code)
{
    slot *s = l->slot;
    if (code == CURLE_OK
        && curl_easy_getinfo(l->easy, CURLINFO_ACTIVESOCKET, &l->fd) == CURLE_OK
        && l->fd != CURL_SOCKET_BAD) {
        l->owner->connecting--;
        l->state = BUSY;
        send_out(l);
        return;
    }
    s->phase = ksms_phase(l->owner, l->easy);
    memcpy(s->error, l->error, sizeof s->error);
    lose(l, code != CURLE_OK ? code : CURLE_COULDNT_CONNECT, NULL);
}

static void connect_all(engine *e)
{
    CURLMsg *message;
    int running, left, i;
    if (curl_multi_perform(e->multi, &running) != CURLM_OK) {
        for (i = e->links_count - 1; i >= 0; i--) {
            if (e->links[i]->state == CONNECTING)
                lose(e->links[i], CURLE_COULDNT_CONNECT,
                     "libcurl gave up all connections");
        }
        return;
    }
    while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
        char *p = NULL;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE
            && curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &p)
               == CURLE_OK && p != NULL)
            connected((ksms_link *)(void *)p, code);
    }
}

/* Lists the busy links to wait for; returns their number, and the first
   deadline in '*when'. Where memory is short, some wait for the next turn. */
static int list_busy(engine *e, double *when)
{
    int i, n = 0;
    if (!ksms_grow((void **)&e->polled, &e->polled_room, e->links_count,
                   sizeof *e->polled)
        || !ksms_grow((void **)&e->polled_links, &e->polled_links_room,
                      e->links_count, sizeof *e->polled_links))
        return 0;
    for (i = 0; i < e->links_count; i++) {
        ksms_link *l = e->links[i];
        const slot *s = l->slot;
        if (l->state != BUSY)
            continue;
        if (s->deadline < *when)
            *when = s->deadline;
        e->polled_links[n] = l;
        e->polled[n].fd = l->fd;
        e->polled[n].events = CURL_WAIT_POLLIN;
        if (s->sent < s->out.n)
            e->polled[n].events |= CURL_WAIT_POLLOUT;
        e->polled[n++].revents = 0;
    }
    return n;
}

/* Ends the requests whose time is over. */
static void expire(engine *e, double now)
{
    int i;
    for (i = e->links_count - 1; i >= 0; i--) {
        ksms_link *l = e->links[i];
        if (l->state == BUSY && l->slot->deadline <= now)
            lose(l, CURLE_OPERATION_TIMEDOUT, "no answer came in time");
    }
}

static void wire_move(engine *e, double ms)
{
    double when = 1e300;
    int i, n;
    if (e->connecting > 0)
        connect_all(e);
    n = list_busy(e, &when);
    if (e->ended != NULL)
        ms = 0;
    if (n > 0 && ms > ksms_ms_until(when))
        ms = (double)ksms_ms_until(when);
    if (curl_multi_poll(e->multi, e->polled, (unsigned)n,
                        ms > 1e9 ? 1000000000 : (int)ms, NULL) != CURLM_OK)
        n = 0; /* nothing is known of the sockets; time passes all the same */
    for (i = 0; i < n; i++) {
        ksms_link *l = e->polled_links[i];
        slot *s = l->slot;
        if (e->polled[i].revents & CURL_WAIT_POLLOUT)
            send_out(l);
        /* Sending may have lost the link, and the slot with it. */
        if ((e->polled[i].revents & CURL_WAIT_POLLIN) && s->link != NULL)
            read_in(l);
    }
    if (e->connecting > 0)
        connect_all(e);
    if (when <= ksms_monotonic())
        expire(e, ksms_monotonic());
}

static int wire_fill(slot *s, const char *token, size_t token_len,
                     const char *body, size_t body_len)
{
    char length[64];
    int n = snprintf(length, sizeof length, "\r\nContent-Length: %u\r\n\r\n",
                     (unsigned)body_len);
    s->out.n = 0;
    return ksms_buffer_add(&s->out, s->owner->head.bytes, s->owner->head.n)
        && ksms_buffer_add(&s->out, token, token_len)
        && ksms_buffer_add(&s->out, length, (size_t)n)
        && ksms_buffer_add(&s->out, body, body_len);
}

static const char *wire_launch(slot *s)
{
    ksms_link *l = take_idle(s->owner);
    s->sent = 0;
    if (l == NULL)
        return open_link(s);
    l->state = BUSY;
    l->slot = s;
    s->link = l;
    send_out(l);
    return NULL;
}

static void wire_ground(slot *s)
{
    if (s->link != NULL)
        close_link(s->link);
    s->link = NULL;
}

static void wire_extend(slot *s, long ms)
{
    ksms_link *l = s->link;
    if (l == NULL || l->state != CONNECTING)
        return;
    l->timeout += ms;
    l->connect_timeout += ms;
    /* Where libcurl refuses, the link keeps its old time. */
    (void)curl_easy_setopt(l->easy, CURLOPT_TIMEOUT_MS, l->timeout);
    (void)curl_easy_setopt(l->easy, CURLOPT_CONNECTTIMEOUT_MS,
                           l->connect_timeout);
}

static void wire_forget(engine *e)
{
    int i;
    for (i = 0; i < e->links_count; i++)
        free(e->links[i]);
    for (i = 0; i < e->count; i++)
        e->slots[i]->link = NULL;
    e->links_count = e->connecting = 0;
    e->idle = NULL;
}

static void wire_shut(engine *e)
{
    while (e->links_count > 0)
        close_link(e->links[e->links_count - 1]);
    free(e->links);
    free(e->polled);
    free(e->polled_links);
}

const ksms_way ksms_wire = {
    wire_fill, wire_launch, wire_ground, wire_move, wire_extend, wire_forget,
    wire_shut
};
