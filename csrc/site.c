/* site.c - who called: the numbers of threads, and call sites that are texts instead of return addresses.
 *
 * A mark keeps 15 bits of thread: after 32,767 threads numbers are used again, and an old mark may name a younger thread. Texts are kept
 * for good. Cost of a text that is known: a hash of it and one lock.
 */
#include <stdio.h>

#include "modes.h"

#define THREADS 32768
#define BUCKETS 1024

typedef struct text_site {
  struct text_site *next;
  char text[];
} text_site;

static uint32_t thread_ids[THREADS]; /* 128 KiB of zeros until they are used */
static uint32_t thread_count;
static struct {
  pthread_mutex_t lock; /* nothing is called under it but meta */
  text_site *buckets[BUCKETS];
} texts = {.lock = PTHREAD_MUTEX_INITIALIZER};

uint32_t tci_thread_number(void) {
  uint32_t number = ADD(thread_count, 1) % (THREADS - 1) + 1;
  STORE(thread_ids[number], (uint32_t)tci_os_thread());
  return number;
}

uint64_t tci_thread_system(uint32_t number) { return LOAD(thread_ids[number]); }

static uint32_t hash(const char *text) { /* FNV-1a */
  uint32_t value = 2166136261u;
  for (; *text; text++) value = (value ^ (unsigned char)*text) * 16777619u;
  return value % BUCKETS;
}

const void *tc_site_intern(const char *text) {
  if (!text) return NULL;
  text_site **bucket = &texts.buckets[hash(text)], *site;
  pthread_mutex_lock(&texts.lock);
  for (site = *bucket; site && strcmp(site->text, text) != 0;) site = site->next;
  if (!site && (site = tci_meta_alloc(META_OTHER, sizeof *site + strlen(text) + 1))) {
    strcpy(site->text, text);
    site->next = *bucket;
    *bucket = site;
  }
  pthread_mutex_unlock(&texts.lock);
  return site;
}

static const text_site *text_find(const void *call) { /* is it one of ours? The texts are few: a walk will do */
  const text_site *found = NULL;
  pthread_mutex_lock(&texts.lock);
  for (size_t i = 0; i < BUCKETS && !found; i++)
    for (const text_site *site = texts.buckets[i]; site && !found; site = site->next)
      if (site == call) found = site;
  pthread_mutex_unlock(&texts.lock);
  return found;
}

size_t tc_site_describe(const void *call, char *text, size_t size) {
  const text_site *known = call ? text_find(call) : NULL;
  int length = known ? snprintf(text, size, "%s", known->text) : call ? 0 : snprintf(text, size, "an unknown place");
  if (!known && call) length = tci_os_symbol(call, text, size);
  return length < 0 ? 0 : (size_t)length;
}

void tci_site_lock(void) { pthread_mutex_lock(&texts.lock); }
void tci_site_unlock(void) { pthread_mutex_unlock(&texts.lock); }
