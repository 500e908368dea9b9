/*
** request.c - from configuration and numbers to the bytes of one POST: origin, path, head, body.
** Nothing here is cleaned up or escaped into shape where it could be refused: a blank, CR, LF or
** NUL in a URL or header is an injection or a slip.
*/
#include <string.h>

#include "address.h"
#include "koresms.h"
#include "post.h"

/* The header fields that are the same in every request. Without Accept-Encoding any coding would
   be acceptable (RFC 9110, 12.5.3), and no reply is uncompressed here. */
#define FIELDS \
    "Content-Type: application/json\r\n" \
    "Accept: application/json\r\n" \
    "Accept-Encoding: identity\r\n" \
    "User-Agent: koresms/" KSMS_VERSION "\r\n"

typedef struct origin {
    const char *scheme;
    ksms_address at;
} origin;

/* NULL, or a static text that completes "the host ...". */
static const char *read_origin(const char *s, size_t n, origin *o)
{
    const char *end = s + n, *scheme;
    memset(o, 0, sizeof *o);
    if (n > KSMS_NAME_MAX)
        return "is too long; expected at most 255 bytes";
    if (memchr(s, '@', n) != NULL)
        return "has user information; the token authenticates";
    if (n > 0 && (s[0] == ' ' || s[0] == '\t'))
        return "has a blank, line end or NUL; write it without any";
    o->scheme = "https";
    if (ksms_skip_prefix(&s, end, "http://"))
        o->scheme = "http";
    else if (!ksms_skip_prefix(&s, end, "https://")) {
        const char *colon = memchr(s, ':', (size_t)(end - s));
        if (colon != NULL && end - colon > 2 && memcmp(colon, "://", 3) == 0)
            return "has a scheme other than https:// or http://";
    }
    scheme = s;
    if (ksms_skip_prefix(&scheme, end, "http:") || ksms_skip_prefix(&scheme, end, "https:")
        || ksms_skip_prefix(&scheme, end, "http/") || ksms_skip_prefix(&scheme, end, "https/"))
        return "has its scheme twice, or without '://' behind it; write https:// once";
    if (s == end)
        return "is empty; give a name such as platform.kore.ai";
    o->at.port = o->scheme[4] == 's' ? 443 : 80;
    return ksms_read_address(s, end, &o->at);
}

/***
Reads an origin: scheme (https where none is given), host, port.
@function origin
@tparam string text "platform.kore.ai", "https://host:8443", "http://[::1]:80"
@treturn[1] table `scheme`, `host` (an IPv6 address without brackets), `port`,
  `authority` (as in a Host header), `origin` (the whole, without a last "/")
@treturn[2] nil
@treturn[2] string what is wrong, to be read after the setting's name
*/
static int l_origin(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    const char *fault;
    origin o;
    int usual;
    fault = read_origin(s, n, &o);
    if (fault != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, fault);
        return 2;
    }
    lua_createtable(L, 0, 5);
    lua_pushstring(L, o.scheme);
    lua_setfield(L, -2, "scheme");
    lua_pushlstring(L, o.at.host, o.at.host_len);
    lua_setfield(L, -2, "host");
    lua_pushinteger(L, (lua_Integer)o.at.port);
    lua_setfield(L, -2, "port");
    lua_getfield(L, -1, "host");
    if (o.at.ipv6) {
        lua_pushfstring(L, "[%s]", lua_tostring(L, -1));
        lua_remove(L, -2);
    }
    usual = o.at.port == (o.scheme[4] == 's' ? 443 : 80);
    if (!usual) {
        lua_pushfstring(L, "%s:%d", lua_tostring(L, -1), (int)o.at.port);
        lua_remove(L, -2);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "authority");
    lua_pushfstring(L, "%s://%s", o.scheme, lua_tostring(L, -1));
    lua_setfield(L, -3, "origin");
    lua_pop(L, 1);
    return 1;
}

/***
The request's path for one bot (stream) id, which is percent-encoded.
@function path
@tparam string bot_id 1 to 255 bytes, without blanks, controls, "/", "?", "#"
@treturn[1] string the path
@treturn[2] nil
@treturn[2] string what is wrong, to be read after the setting's name
@see https://docs.kore.ai/ai-for-service/apis/contact-center/send-outbound-sms
*/
static int l_path(lua_State *L)
{
    static const char digit[] = "0123456789ABCDEF";
    char text[3 * KSMS_NAME_MAX], *p = text;
    size_t n, i;
    const char *s = luaL_checklstring(L, 1, &n);
    const char *fault = NULL;
    if (n == 0 || n > KSMS_NAME_MAX)
        fault = "expected 1 to 255 bytes";
    else if ((n == 1 && s[0] == '.') || (n == 2 && memcmp(s, "..", 2) == 0))
        fault = "expected an id such as st-..., not a path";
    for (i = 0; i < n && fault == NULL; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= ' ' || c == 0x7F)
            fault = "has a blank, line end, NUL or other control character";
        else if (c == '/' || c == '?' || c == '#')
            fault = "has a '/', '?' or '#'; give the id alone, not an address";
        else if (ksms_is_host((char)c) || c == '~')
            *p++ = (char)c;
        else {
            *p++ = '%';
            *p++ = digit[c >> 4];
            *p++ = digit[c & 15];
        }
    }
    if (fault != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, fault);
        return 2;
    }
    lua_pushliteral(L, "/api/public/bot/");
    lua_pushlstring(L, text, (size_t)(p - text));
    lua_pushliteral(L, "/outboundsms");
    lua_concat(L, 3);
    return 1;
}

/***
Whether a value is a message as it stands: a table without a metatable that has the fields of one
alone, each of its type.
@function is_message
@param value
@treturn[1] boolean true
@treturn[2] nil where it is none
*/
static int l_is_message(lua_State *L)
{
    static const struct {
        const char *name;
        int type, needed;
    } fields[] = {
        {"to", LUA_TSTRING, 1},
        {"from", LUA_TSTRING, 0},
        {"id", LUA_TSTRING, 0},
        {"start_before", LUA_TNUMBER, 0},
    };
    size_t i;
    int known = 0;
    lua_settop(L, 1);
    if (!lua_istable(L, 1) || lua_getmetatable(L, 1))
        return 0;
    for (i = 0; i < sizeof fields / sizeof *fields; i++) {
        int type;
        lua_getfield(L, 1, fields[i].name);
        type = lua_type(L, -1);
        if (type == fields[i].type)
            known++;
        else if (type != LUA_TNIL || fields[i].needed)
            return 0;
        lua_settop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_settop(L, 2))
        known--;
    if (known != 0)
        return 0;
    lua_pushboolean(L, 1);
    return 1;
}

/* A number at 'arg', NULL where it is not E.164. */
static const char *number(lua_State *L, int arg, size_t *n)
{
    size_t at;
    const char *s = luaL_checklstring(L, arg, n);
    return ksms_e164_fault(s, *n, &at) == NULL ? s : NULL;
}

/***
The request's body for one message.
@function body
@tparam string from the sender
@tparam string to the recipient
@treturn[1] string the JSON text
@treturn[2] nil where one of them is no E.164 number; `e164` tells why
*/
static int l_body(lua_State *L)
{
    char text[64 + 2 * KSMS_E164_MAX], *p = text;
    size_t from_len, to_len;
    const char *from = number(L, 1, &from_len);
    const char *to = number(L, 2, &to_len);
    if (from == NULL || to == NULL)
        return 0;
    memcpy(p, "{\"fromNo\":\"", 11);
    memcpy(p += 11, from, from_len);
    memcpy(p += from_len, "\",\"toNo\":\"", 10);
    memcpy(p += 10, to, to_len);
    memcpy(p += to_len, "\"}", 2);
    lua_pushlstring(L, text, (size_t)(p + 2 - text));
    return 1;
}

/***
The head of every POST, up to the value of its field `auth` (HTTP/1.1, RFC 9112).
@function head
@tparam string path from `path`
@tparam string authority from `origin`
@treturn string
*/
static int l_head(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    const char *authority = luaL_checkstring(L, 2);
    lua_pushfstring(L, "POST %s HTTP/1.1\r\nHost: %s\r\n" FIELDS "auth: ", path, authority);
    return 1;
}

/***
The bytes of a whole POST.
@function post
@tparam string head from `head`
@tparam string token as it is: koresms.config and koresms.client see to it that nothing but visible
  ASCII characters gets here
@tparam string body from `body`
@treturn string
*/
static int l_post(lua_State *L)
{
    ksms_text head, token, body;
    char *bytes;
    head.s = luaL_checklstring(L, 1, &head.n);
    token.s = luaL_checklstring(L, 2, &token.n);
    body.s = luaL_checklstring(L, 3, &body.n);
    bytes = (char *)ksms_newuserdata(L, ksms_post_size(&head, &token, &body));
    lua_pushlstring(L, bytes, ksms_write_post(bytes, &head, &token, &body));
    return 1;
}

void ksms_open_request(lua_State *L)
{
    static const luaL_Reg functions[]
        = {{"origin", l_origin}, {"path", l_path}, {"body", l_body}, {"is_message", l_is_message},
           {"head", l_head},     {"post", l_post}, {NULL, NULL}};
    ksms_setfuncs(L, functions);
}
