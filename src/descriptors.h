/*
** descriptors.h - descriptors: those of standard input, output and errors, and whether there are
** enough of them.
*/
#ifndef ksms_descriptors_h
#define ksms_descriptors_h

/* More than these no connection takes while it is made. */
#define KSMS_DESCRIPTORS_MAX 4

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/*
** Where a standard descriptor is closed, libcurl's own descriptors would get its number, and what
** the program writes there: the null device takes its place, and stays.
*/
void ksms_fill_standard(void);

/* Whoever closed a standard descriptor may still write to it: not into what is opened here. Returns
   a descriptor above them in place of this one. */
int ksms_above_standard(int fd);

/* Would so many descriptors be had? libcurl does not tell that it had too few: a name could not be
   resolved then, or a certificate not be read. */
int ksms_has_descriptors(int need);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
