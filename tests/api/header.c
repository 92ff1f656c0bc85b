/* header.c - styx.h compiles by itself as C99, C17, C++11 and C++17: see tests/CMakeLists.txt. */
#include "styx.h"

int header_compiles(void);

int header_compiles(void)
{
    struct styx_request request = STYX_REQUEST_INIT;
    struct styx_result result = STYX_RESULT_INIT;
    struct styx_model_options model = STYX_MODEL_OPTIONS_INIT;
    struct styx_session_options session = STYX_SESSION_OPTIONS_INIT;
    return request.size && result.size && model.size && session.size;
}
