/*
** proxy.c - the address of a proxy, read once for all transports.
**
** libcurl takes a whole address, too, and where it cannot read one it quotes it, password
** included, or passes the proxy by. So it is handed the parts that are read here. No fault
** quotes any of the text.
*/
#include <string.h>

#include <openssl/crypto.h>

#include "address.h"
#include "koresms.h"

/* A password may be a token; nothing that stands in an address is longer. */
#define PROXY_MAX 4096

/* The protocol of SOCKS 5 has one byte for each length (RFC 1929, 2). */
#define SOCKS_MAX 255

typedef struct scheme {
    const char *name;
    const char *prefix;
    long port; /* as libcurl has it */
    int socks;
} scheme;

static const scheme schemes[] = {
    {"http", "http://", 1080, 0},
    {"https", "https://", 443, 0},
    {"socks5", "socks5://", 1080, 1},
    {"socks5h", "socks5h://", 1080, 1},
    {NULL, NULL, 0, 0},
};

/* A user or a password, decoded. */
typedef struct part {
    char text[PROXY_MAX];
    size_t len;
} part;

typedef struct proxy {
    const scheme *scheme;
    ksms_address at;
    int has_user;
    part user, password;
} proxy;

static const char *find_scheme(const char **s, const char *end, const scheme **found)
{
    const scheme *one;
    for (one = schemes; one->name != NULL; one++)
        if (ksms_skip_prefix(s, end, one->prefix)) {
            *found = one;
            return NULL;
        }
    return "has none of the schemes that there are; write http://, https://, socks5:// or "
           "socks5h:// before the host";
}

/* What no part of an address may hold as it is. */
static const char *byte_fault(const char *s, const char *end)
{
    for (; s < end; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '\0')
            return "has a NUL byte";
        if (c == '\r' || c == '\n')
            return "has a line end";
        if (c < ' ' || c == 0x7F)
            return "has a control character";
        if (c == ' ')
            return "has a blank; within user or password write it as %20";
    }
    return NULL;
}

/* What would end an address, or part it in two ways. */
static const char *delimiter_fault(const char *s, const char *end)
{
    const char *at = memchr(s, '@', (size_t)(end - s)), *slash;
    if (memchr(s, '#', (size_t)(end - s)) != NULL)
        return "has a '#'; within user or password write it as %23";
    if (memchr(s, '?', (size_t)(end - s)) != NULL)
        return "has a '?'; within user or password write it as %3F";
    slash = memchr(s, '/', (size_t)(end - s));
    if (slash != NULL && slash + 1 != end)
        return "has a '/' before its end; within user or password write it as %2F, and give no "
               "path";
    if (at != NULL && memchr(at + 1, '@', (size_t)(end - at) - 1) != NULL)
        return "has more than one '@'; within user or password write it as %40";
    return NULL;
}

static int hex_value(char c)
{
    return ksms_is_digit(c) ? c - '0' : ksms_lower(c) - 'a' + 10;
}

static const char *decode(const char *s, const char *end, part *to)
{
    for (; s < end; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '%') {
            if (end - s < 3 || !ksms_is_hex(s[1]) || !ksms_is_hex(s[2]))
                return "has a '%' without two hexadecimal digits behind it; write '%' itself as "
                       "%25";
            c = (unsigned char)(hex_value(s[1]) << 4 | hex_value(s[2]));
            s += 2;
        }
        if (c < ' ' || c == 0x7F)
            return "has a control character or NUL, percent-encoded, in user or password";
        to->text[to->len++] = (char)c;
    }
    return NULL;
}

static const char *read_user(const char *s, const char *end, proxy *p)
{
    const char *colon = memchr(s, ':', (size_t)(end - s));
    const char *fault = decode(s, colon != NULL ? colon : end, &p->user);
    if (fault == NULL && colon != NULL)
        fault = decode(colon + 1, end, &p->password);
    if (fault != NULL)
        return fault;
    p->has_user = 1;
    if (p->user.len == 0)
        return "has an '@' and no user before it; write user:password@host, or the host alone";
    if (!p->scheme->socks && memchr(p->user.text, ':', p->user.len) != NULL)
        return "has a ':' in its user, which HTTP cannot tell from the one before the password";
    if (p->scheme->socks && (p->user.len > SOCKS_MAX || p->password.len > SOCKS_MAX))
        return "has a user or password of more than 255 bytes, which SOCKS cannot carry";
    return NULL;
}

/* NULL, or a static text that completes "the proxy ...". */
static const char *read_proxy(const char *s, size_t n, proxy *p)
{
    const char *end = s + n, *at, *fault;
    if (n > PROXY_MAX)
        return "is too long; expected at most 4096 bytes";
    if ((fault = byte_fault(s, end)) != NULL || (fault = find_scheme(&s, end, &p->scheme)) != NULL
        || (fault = delimiter_fault(s, end)) != NULL)
        return fault;
    at = memchr(s, '@', (size_t)(end - s));
    if (at != NULL) {
        if ((fault = read_user(s, at, p)) != NULL)
            return fault;
        s = at + 1;
    }
    p->at.port = p->scheme->port;
    return ksms_read_address(s, end, &p->at);
}

static void push_proxy(lua_State *L, const proxy *p)
{
    lua_createtable(L, 0, 5);
    lua_pushstring(L, p->scheme->name);
    lua_setfield(L, -2, "scheme");
    lua_pushlstring(L, p->at.host, p->at.host_len);
    lua_setfield(L, -2, "host");
    lua_pushinteger(L, (lua_Integer)p->at.port);
    lua_setfield(L, -2, "port");
    if (!p->has_user)
        return;
    lua_pushlstring(L, p->user.text, p->user.len);
    lua_setfield(L, -2, "user");
    lua_pushlstring(L, p->password.text, p->password.len);
    lua_setfield(L, -2, "password");
}

/* Finalizer. */
static int proxy_gc(lua_State *L)
{
    OPENSSL_cleanse(lua_touserdata(L, 1), sizeof(proxy));
    return 0;
}

#define PROXY "koresms.proxy"

/***
Reads the address of a proxy: `http`, `https`, `socks5` or `socks5h`, perhaps a user and a
password (percent-encoded where they hold what an address cannot), a host (an IPv6 address in
brackets), and perhaps a port.
@function proxy
@tparam string text such as "http://user:pass%40word@proxy.example:3128"
@treturn[1] table `scheme`, `host` (an IPv6 address without brackets), `port` (1080 where none
  is given, 443 for https), and where there is a user `user` and `password`, decoded; the
  password is "" where there is none
@treturn[2] nil
@treturn[2] string what is wrong and what would be right, to be read after the setting's name;
  it quotes nothing of the text
*/
static int l_proxy(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    const char *fault;
    /* Pushing may raise, and what is here has to be wiped all the same. */
    proxy *p = (proxy *)ksms_newuserdata(L, sizeof *p);
    memset(p, 0, sizeof *p);
    ksms_setclass(L, PROXY);
    fault = read_proxy(s, n, p);
    if (fault != NULL) {
        OPENSSL_cleanse(p, sizeof *p);
        lua_pushnil(L);
        lua_pushstring(L, fault);
        return 2;
    }
    push_proxy(L, p);
    OPENSSL_cleanse(p, sizeof *p);
    return 1;
}

void ksms_open_proxy(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {NULL, NULL},
    };
    ksms_newclass(L, PROXY, methods, proxy_gc);
    lua_pushcfunction(L, l_proxy);
    lua_setfield(L, -2, "proxy");
}
