/*
** http1.h - the reader of HTTP/1.1 replies, for transports without libcurl.
*/
#ifndef ksms_http1_h
#define ksms_http1_h

#include <lua.h>

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/* Creates the class and sets `reader` in the module table on top of the stack. */
void ksms_open_reader(lua_State *L);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
