/* The C interface of the operator library: plain pointers in, a status out, nothing thrown, nothing
 * aborted.
 *
 * All functions may be called from several threads at once. Matrices are row-major; sizes are in
 * elements. Denormal numbers count as zero, whichever way the calling thread computes otherwise.
 */
#ifndef OPTOPS_KERNELS_H_
#define OPTOPS_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define OPTOPS_API __attribute__((visibility("default")))
#else
#define OPTOPS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The number of this interface; it changes whenever a struct or what a function takes does. */
#define OPTOPS_INTERFACE 1

/* The number that the library was built with. */
OPTOPS_API int32_t optops_interface(void);

typedef enum {
  OPTOPS_OK = 0,
  OPTOPS_INVALID = 1,       /* an argument is wrong; the message says which */
  OPTOPS_OUT_OF_MEMORY = 2, /* results may be written in part */
  OPTOPS_UNSUPPORTED = 3    /* this processor or this build can not do it */
} optops_code;

/* What a call came to. The caller owns it; it may be NULL where the caller does not care. */
typedef struct {
  int32_t code;
  char message[256];
} optops_status;

typedef enum { OPTOPS_FP32 = 0, OPTOPS_BF16 = 1, OPTOPS_INT8 = 2 } optops_precision;

typedef enum {
  OPTOPS_LINEAR = 0,
  OPTOPS_RELU = 1,
  OPTOPS_GELU_ERF = 2,
  OPTOPS_GELU_TANH = 3,
  OPTOPS_SILU = 4
} optops_activation;

/* The instruction set in use: generic, avx2, avx512, avx512_vnni, avx512_bf16 or amx; the
 * environment variable OPTOPS_ISA forces one that the processor has. */
OPTOPS_API const char* optops_isa(void);

/* The instruction sets that this build has and this processor can run, best first, separated by
 * commas. */
OPTOPS_API const char* optops_isas(void);

/* Threads that a call uses if it is told 0: OPTOPS_THREADS, or the processors that this process may
 * run on, or as many as its container has a quota for if these are fewer. 0 if OPTOPS_THREADS is no
 * number: then calls are refused. */
OPTOPS_API int32_t optops_threads(void);

/* Sets how many threads a call of this process uses if it is told 0; less than 1 sets the default
 * again. */
OPTOPS_API void optops_set_threads(int32_t threads);

/* A product's weights, packed for the processor; see optops_product_pack. */
typedef struct optops_product optops_product;

/* Packs the weights of y = x W + b once, so that no call has to.
 *
 * weights: [inputs, outputs]. bias: [outputs], or NULL. Both are copied. precision: an
 * optops_precision. Returns NULL where status says why. Free it with optops_product_free.
 */
OPTOPS_API optops_product* optops_product_pack(const float* weights, const float* bias,
                                               int64_t inputs, int64_t outputs, int32_t precision,
                                               optops_status* status);

OPTOPS_API void optops_product_free(optops_product* product);

/* Writes inputs, outputs, and the bytes of packed weights that a call reads. [3] */
OPTOPS_API void optops_product_sizes(const optops_product* product, int64_t* sizes);

/* Packed weights as one block of bytes, to keep and to open again; a model's are the same for every
 * processor. `bytes`: [1], how many there are. The block lives as long as what it was asked of.
 *
 * An `open` checks a block, its checksum too, and uses it where it lies if it starts on a multiple
 * of 64 bytes: it must stay there, unchanged, until what was opened is freed. */
OPTOPS_API const void* optops_product_blob(const optops_product* product, int64_t* bytes);
OPTOPS_API optops_product* optops_product_open(const void* blob, int64_t bytes,
                                               optops_status* status);

/* y = activation(x W + b) + residual.
 *
 * x: [rows, inputs]. y: [rows, outputs]. residual: [rows, outputs], or NULL; it may be y.
 * activation: an optops_activation. threads: 0 for the default; more than there are processors are
 * used only if OPTOPS_THREADS says so. A call that finds the library's threads busy runs on its
 * own thread alone; the result is the same to the last bit for any number of threads, and for a row
 * whatever the other rows are.
 *
 * There may be 2^24 inputs, 2^17 in int8, and 2^24 outputs.
 *
 * fp32 adds up in order of the inputs. bf16 rounds x and W to bfloat16 and adds up in fp32. int8
 * has a scale per row of x (its largest magnitude / 127) and per column of W, and adds up exactly.
 */
OPTOPS_API int32_t optops_product_run(const optops_product* product, const float* x, int64_t rows,
                                      int32_t activation, const float* residual, float* y,
                                      int32_t threads, optops_status* status);

/* The sizes of an encoder. */
typedef struct {
  int32_t width;
  int32_t head_size;
  int32_t layers;
  const int32_t* heads;        /* [layers] */
  const int32_t* feed_forward; /* [layers], hidden units */
  int32_t norm_first; /* 1: norms before each block and after the last layer; 0: after each block,
                         as in BERT */
  float epsilon;      /* of the norms */
  int32_t activation; /* of the hidden units, an optops_activation */
  int32_t precision; /* of the products, an optops_precision; where that of queries, keys and values
                        is not fp32, attention is bf16 if the processor multiplies that */
  const int32_t* precisions; /* [layers * 4], of each product in the order of the weights; NULL:
                                `precision` for all */
} optops_encoder_config;

/* A Transformer encoder's weights, packed. */
typedef struct optops_encoder optops_encoder;

/* Packs the weights of an encoder; all are copied.
 *
 * weights: 12 arrays for each layer, then 2 if norm_first:
 *   scale and offset of the norm before (or after) attention, [width] each;
 *   query, key and value side by side [width, 3 * heads * head_size], and their bias;
 *   attention output [heads * head_size, width], and its bias;
 *   scale and offset of the norm before (or after) the hidden units;
 *   expand [width, feed_forward], and its bias; contract [feed_forward, width], and its bias;
 *   scale and offset of the last norm.
 * count: how many arrays there are. Returns NULL where status says why. Free it with
 * optops_encoder_free.
 */
OPTOPS_API optops_encoder* optops_encoder_pack(const optops_encoder_config* config,
                                               const float* const* weights, int64_t count,
                                               optops_status* status);

OPTOPS_API void optops_encoder_free(optops_encoder* encoder);

/* Writes the width. [1] */
OPTOPS_API void optops_encoder_sizes(const optops_encoder* encoder, int64_t* sizes);

OPTOPS_API const void* optops_encoder_blob(const optops_encoder* encoder, int64_t* bytes);
OPTOPS_API optops_encoder* optops_encoder_open(const void* blob, int64_t bytes,
                                               optops_status* status);

/* Encodes sentences that stand one after the other without padding.
 *
 * x: [tokens, width], embedded. y: [tokens, width]; may be x. starts: [sentences + 1], the first
 * token of each sentence, rising from 0, then the number of tokens. No sentence may be empty or
 * longer than 65536 tokens. The result of a sentence is the same to the last bit for any number of
 * threads and for any other sentences.
 */
OPTOPS_API int32_t optops_encoder_run(const optops_encoder* encoder, const float* x,
                                      const int64_t* starts, int64_t sentences, float* y,
                                      int32_t threads, optops_status* status);

/* The sizes of a decoder. */
typedef struct {
  int32_t width;
  int32_t head_size;
  int32_t layers;
  const int32_t* self_heads;   /* [layers] */
  const int32_t* cross_heads;  /* [layers] */
  const int32_t* feed_forward; /* [layers], hidden units */
  int32_t norm_first;          /* as in an encoder */
  float epsilon;
  int32_t activation;
  int32_t outputs; /* how many ids there are to write */
  int32_t precision;
  const int32_t* precisions; /* [layers * 7 + 1], or NULL */
} optops_decoder_config;

/* The sizes of a translator: token ids in, token ids out. */
typedef struct {
  optops_encoder_config encoder;
  optops_decoder_config decoder;
  int32_t vocabulary;       /* of source ids */
  int32_t positions;        /* the longest sentence, on either side */
  int32_t padding;          /* what results are filled up with */
  int32_t begin;            /* what a translation starts from */
  int32_t end;              /* what closes it */
  int32_t shared_embedding; /* 1: the target's embedding is the first rows of the source's */
} optops_translator_config;

/* A translator's weights, packed. */
typedef struct optops_translator optops_translator;

/* Packs the weights of a translator; all are copied.
 *
 * weights:
 *   the source embedding [vocabulary, width], with all factors on it;
 *   the target embedding [outputs, width], unless it is shared;
 *   the positions [positions, width], which are added to both;
 *   an encoder's arrays;
 *   20 arrays for each layer of the decoder:
 *     scale and offset of the norm before (or after) attention over what is written;
 *     query, key and value side by side [width, 3 * self_heads * head_size], and their bias;
 *     its output [self_heads * head_size, width], and its bias;
 *     scale and offset of the norm before (or after) attention over the source;
 *     query [width, cross_heads * head_size], and its bias;
 *     key and value side by side [width, 2 * cross_heads * head_size], and their bias;
 *     its output [cross_heads * head_size, width], and its bias;
 *     scale and offset of the norm before (or after) the hidden units;
 *     expand [width, feed_forward], and its bias; contract [feed_forward, width], and its bias;
 *   scale and offset of its last norm if norm_first;
 *   the projection to outputs [width, outputs], and its bias: a large negative number there takes
 *   an output out.
 */
OPTOPS_API optops_translator* optops_translator_pack(const optops_translator_config* config,
                                                     const float* const* weights, int64_t count,
                                                     optops_status* status);

OPTOPS_API void optops_translator_free(optops_translator* translator);

OPTOPS_API const void* optops_translator_blob(const optops_translator* translator, int64_t* bytes);
OPTOPS_API optops_translator* optops_translator_open(const void* blob, int64_t bytes,
                                                     optops_status* status);

/* Writes width, vocabulary, outputs and positions. [4] */
OPTOPS_API void optops_translator_sizes(const optops_translator* translator, int64_t* sizes);

/* How translations are searched. A hypothesis of n ids, the end included, scores
 * log P / ((5 + n) / 6) ^ length_penalty. */
typedef struct {
  int32_t beam;           /* hypotheses that run at once, 1 to 255; 1 is greedy */
  int32_t results;        /* translations wanted of each sentence, best first; with more than one
                             the search goes on until `beam` have ended */
  int32_t minimum_length; /* in ids, the end included */
  float length_penalty;   /* -5 to 5 */
  const int32_t* limits;  /* [sentences], the most ids of each translation, the end included */
  int32_t capacity;       /* of a row of results; no limit may be larger */
} optops_search;

/* Refuses a search as `decode` and `run` do, but before there is room for its results. */
OPTOPS_API int32_t optops_translator_check(const optops_translator* translator,
                                           const optops_search* search, int64_t sentences,
                                           optops_status* status);

/* Encodes sentences that stand one after the other without padding.
 *
 * ids: [tokens]. starts: [sentences + 1], as for an encoder. memory: [tokens, width].
 */
OPTOPS_API int32_t optops_translator_encode(const optops_translator* translator, const int32_t* ids,
                                            const int64_t* starts, int64_t sentences, float* memory,
                                            int32_t threads, optops_status* status);

/* Translates sentences that are encoded.
 *
 * memory: [tokens, width]. ids: [sentences, results, capacity], filled up with padding. lengths,
 * scores: [sentences, results]; 0 and NaN where a search came to fewer results, as it does from
 * states that are not finite. A sentence's results are the same to the last bit for any number of
 * threads and any other sentences.
 */
OPTOPS_API int32_t optops_translator_decode(const optops_translator* translator,
                                            const float* memory, const int64_t* starts,
                                            int64_t sentences, const optops_search* search,
                                            int32_t* ids, int32_t* lengths, float* scores,
                                            int32_t threads, optops_status* status);

/* Encodes and translates; source: [tokens]. */
OPTOPS_API int32_t optops_translator_run(const optops_translator* translator, const int32_t* source,
                                         const int64_t* starts, int64_t sentences,
                                         const optops_search* search, int32_t* ids,
                                         int32_t* lengths, float* scores, int32_t threads,
                                         optops_status* status);

/* What models of other forms are put together from. All results are the same to the last bit for
 * any number of threads. A row may be 2^24 wide. */

/* y = activation(x + bias). x, y: [rows, width]; y may be x. bias: [width]. */
OPTOPS_API int32_t optops_bias_activation(const float* x, int64_t rows, int64_t width,
                                          const float* bias, int32_t activation, float* y,
                                          int32_t threads, optops_status* status);

/* y = scale * (z - mean z) / sqrt(var z + epsilon) + offset with z = x + residual.
 *
 * x, y, residual: [rows, width]; y may be either; residual may be NULL. scale, offset: [width]. */
OPTOPS_API int32_t optops_residual_norm(const float* x, const float* residual, int64_t rows,
                                        int64_t width, const float* scale, const float* offset,
                                        float epsilon, float* y, int32_t threads,
                                        optops_status* status);

/* Softmax of the first counts[row] of each row, zero beyond.
 *
 * x, y: [rows, width]; y may be x. counts: [rows], 0 to width; a row of which nothing counts is
 * zero. */
OPTOPS_API int32_t optops_masked_softmax(const float* x, int64_t rows, int64_t width,
                                         const int32_t* counts, float* y, int32_t threads,
                                         optops_status* status);

/* The sizes of an attention over padded batches. */
typedef struct {
  int64_t sentences;
  int64_t query_time;  /* of queries and context */
  int64_t memory_time; /* of keys and values */
  int32_t heads;
  int32_t head_size;
  int32_t causal; /* 1: query t sees the keys 0 to t alone */
  float scale;    /* on the scores; 1 / sqrt(head_size) in Vaswani et al. 2017 */
} optops_attention_config;

/* softmax(scale Q K^T) V for each head.
 *
 * queries, context: [sentences, query_time, heads * head_size]. keys, values: [sentences,
 * memory_time, heads * head_size]. lengths: [sentences], keys that are there, 0 to memory_time;
 * NULL: all. Where there is none the context is zero. context must be none of the others. */
OPTOPS_API int32_t optops_attention(const optops_attention_config* config, const float* queries,
                                    const float* keys, const float* values, const int32_t* lengths,
                                    float* context, int32_t threads, optops_status* status);

#ifdef __cplusplus
}
#endif

#endif /* OPTOPS_KERNELS_H_ */
