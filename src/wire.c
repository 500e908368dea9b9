/*
** wire.c - HTTP/1.1 over connections that libcurl makes.
**
** libcurl's own HTTP sends a POST again by itself when a kept connection dies before a reply
** byte. Here the bytes of a request leave in one function, write_request, and 'starts' is set
** before the first of them: what was written is never written again, and where 'starts' is 0,
** nothing left. Replies are read by the same strict reader as inside nginx.
*/
#define _POSIX_C_SOURCE 200809L

#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* the engine holds SIGPIPE there */
#endif

#define READ_SIZE (16 * 1024)

/* No wait is longer, in ms. */
#define WAIT_MAX 1000000000

long ksms_ms_until(double when)
{
    double left = ceil((when - ksms_now()) * 1000);
    return left < 1 ? 1 : left > WAIT_MAX ? WAIT_MAX : (long)left;
}

/* Takes a request off its connection, which is returned; its state is final now. */
static ksms_connection *detach(ksms_request *r)
{
    ksms_connection *c = r->connection;
    assert(r->state == KSMS_IN_FLIGHT && c != NULL && c->request == r);
    c->request = NULL;
    r->connection = NULL;
    r->state = KSMS_FINISHED;
    c->engine->finished++;
    return c;
}

void ksms_fail_request(ksms_request *r, const char *failure, const char *text)
{
    r->failure = failure;
    r->text = text;
    ksms_close_connection(detach(r));
}

/* The reply is complete, broken off, or refused. */
static void finish_reply(ksms_request *r)
{
    const ksms_reader *reader = &r->reader;
    ksms_connection *c;
    assert(reader->state >= KSMS_DONE);
    if (reader->state == KSMS_LOST) {
        ksms_fail_request(r, "connection_lost", reader->text);
    } else if (reader->state == KSMS_REFUSED) {
        ksms_fail_request(r, "bad_response", reader->text);
    } else {
        c = detach(r);
        if (reader->reusable && r->sent == r->out.n && c->engine->max_idle > 0)
            ksms_keep_idle(c);
        else
            ksms_close_connection(c);
    }
}

/* Both leave CURLE_AGAIN where the socket is not ready. */

static CURLcode write_some(ksms_connection *c, const char *data, size_t size, size_t *n)
{
    ssize_t done;
    if (!c->engine->direct)
        return c->given_up ? CURLE_SEND_ERROR : curl_easy_send(c->easy, data, size, n);
    done = send(c->fd, data, size, MSG_NOSIGNAL);
    *n = done > 0 ? (size_t)done : 0;
    if (done >= 0)
        return CURLE_OK;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? CURLE_AGAIN
                                                                     : CURLE_SEND_ERROR;
}

static CURLcode read_some(ksms_connection *c, char *data, size_t size, size_t *n)
{
    ssize_t done;
    if (!c->engine->direct)
        return c->given_up ? CURLE_RECV_ERROR : curl_easy_recv(c->easy, data, size, n);
    done = recv(c->fd, data, size, 0);
    *n = done > 0 ? (size_t)done : 0;
    if (done >= 0)
        return CURLE_OK;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? CURLE_AGAIN
                                                                     : CURLE_RECV_ERROR;
}

/* Writes what has not left yet: the one place from which bytes of a request leave. */
static void write_request(ksms_request *r)
{
    ksms_connection *c = r->connection;
    assert(c->state == KSMS_BUSY && r->sent < r->out.n);
    if (r->starts == 0 && ksms_now() >= r->start_by) {
        ksms_fail_request(r, "timeout", "its time was over before the request was sent");
        return;
    }
    r->starts = 1;
    while (r->sent < r->out.n) {
        size_t n = 0;
        CURLcode rc = write_some(c, r->out.bytes + r->sent, r->out.n - r->sent, &n);
        if (rc == CURLE_AGAIN)
            return;
        if (rc != CURLE_OK) {
            ksms_fail_request(r, "connection_lost", "the connection broke while sending");
            return;
        }
        r->sent += n;
    }
}

static void read_reply(ksms_request *r)
{
    ksms_connection *c = r->connection;
    char data[READ_SIZE];
    for (;;) {
        size_t n = 0;
        CURLcode rc = read_some(c, data, sizeof data, &n);
        if (rc == CURLE_AGAIN)
            return;
        if (rc != CURLE_OK) {
            ksms_fail_request(r, "connection_lost", "the connection was reset");
            return;
        }
        if (n == 0)
            ksms_reader_end(&r->reader);
        else
            ksms_reader_feed(&r->reader, data, n);
        if (r->reader.state >= KSMS_DONE) {
            finish_reply(r);
            return;
        }
        /* A socket that gave less has no more; TLS may hold some back. */
        if (c->engine->direct && n < sizeof data)
            return;
    }
}

int ksms_begin(ksms_engine *e, ksms_request *r)
{
    ksms_connection *c = ksms_take_idle(e);
    if (c == NULL) {
        c = ksms_connect(e, r);
        if (c == NULL)
            return r->state == KSMS_FINISHED;
    }
    c->request = r;
    r->connection = c;
    r->reused = c->state == KSMS_BUSY;
    r->state = KSMS_IN_FLIGHT;
    if (c->state == KSMS_BUSY)
        write_request(r);
    return 1;
}

void ksms_connected(ksms_connection *c)
{
    write_request(c->request);
}

/* Lists the connections to wait for; returns their number, and the first deadline of all in
   '*first'. */
static int list_busy(ksms_engine *e, double *first)
{
    int i, n = 0;
    for (i = 0; i < e->count; i++) {
        ksms_connection *c = e->connections[i];
        if (c->request == NULL)
            continue;
        if (c->request->deadline < *first)
            *first = c->request->deadline;
        if (c->state != KSMS_BUSY)
            continue;
        e->ready[n] = c;
        e->polled[n].fd = c->fd;
        e->polled[n].events = c->request->sent < c->request->out.n ? POLLIN | POLLOUT : POLLIN;
        e->polled[n++].revents = 0;
    }
    return n;
}

/* Waits for these sockets, and for those of libcurl's that are connecting. 0 where it went
   wrong: nothing is known of the sockets then. */
static int wait_for(ksms_engine *e, int n, int ms)
{
    int i;
    if (e->connecting == 0)
        return poll(e->polled, (nfds_t)n, ms) >= 0;
    for (i = 0; i < n; i++) {
        e->waited[i].fd = e->polled[i].fd;
        e->waited[i].events = CURL_WAIT_POLLIN;
        if (e->polled[i].events & POLLOUT)
            e->waited[i].events |= CURL_WAIT_POLLOUT;
        e->waited[i].revents = 0;
    }
    /* libcurl reports neither a descriptor that somebody closed nor a broken socket as such. */
    return curl_multi_poll(e->multi, e->waited, (unsigned)n, ms, NULL) == CURLM_OK
           && poll(e->polled, (nfds_t)n, 0) >= 0;
}

/* Ends the requests whose time is over. What had arrived for them was read before. */
static void expire(ksms_engine *e, double now)
{
    int i;
    for (i = e->count - 1; i >= 0; i--) {
        ksms_request *r = e->connections[i]->request;
        if (r == NULL || r->deadline > now)
            continue;
        ksms_fail_request(r, "timeout",
                          r->starts > 0 ? "no answer came in time" : KSMS_NOT_CONNECTED);
    }
}

void ksms_step(ksms_engine *e, double ms)
{
    unsigned long finished = e->finished;
    double first = HUGE_VAL;
    int i, n;
    if (e->connecting > 0)
        ksms_advance_connects(e);
    n = list_busy(e, &first);
    if (e->finished != finished)
        ms = 0;
    if (first < HUGE_VAL && ms > ksms_ms_until(first))
        ms = (double)ksms_ms_until(first);
    if (!wait_for(e, n, ms > WAIT_MAX ? WAIT_MAX : (int)ms))
        n = 0;
    for (i = 0; i < n; i++) {
        ksms_request *r = e->ready[i]->request;
        if (e->polled[i].revents & POLLOUT)
            write_request(r);
        /* Writing may have failed the request, and closed its connection. */
        if ((e->polled[i].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
            && r->connection != NULL)
            read_reply(r);
    }
    if (e->connecting > 0)
        ksms_advance_connects(e);
    if (first <= ksms_now())
        expire(e, ksms_now());
}
