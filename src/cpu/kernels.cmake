# Each variant of the inner loops is one small file over kernel.inc with its own instruction set.
# GCC keeps the 28 accumulators of a tile in registers at -O3; clang 14 keeps them in memory.
if(NOT CMAKE_C_COMPILER_ID STREQUAL "GNU")
  message(STATUS "The CPU kernels are about three times as fast when GCC compiles them")
endif()
set(KERNEL_FLAGS -O3 -fno-math-errno -fno-trapping-math)
set(kernel_flags_portable)
set(kernel_flags_avx2 -mavx2 -mfma -mf16c)
set(kernel_flags_avx512 ${kernel_flags_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
set(kernel_flags_avx512bf16 ${kernel_flags_avx512} -mavx512bf16 -mavx512vnni)
set(kernel_flags_amx ${kernel_flags_avx512bf16} -mamx-tile -mamx-bf16)
foreach(isa portable avx2 avx512 avx512bf16 amx)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/src/cpu/kernel_${isa}.c PROPERTIES
    COMPILE_OPTIONS "${KERNEL_FLAGS};${kernel_flags_${isa}}"
    OBJECT_DEPENDS "${CMAKE_SOURCE_DIR}/src/cpu/kernel.inc;${CMAKE_SOURCE_DIR}/src/cpu/kernel_attention.inc")
endforeach()
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set_source_files_properties(
    ${CMAKE_SOURCE_DIR}/src/cpu/kernel_avx2.c
    ${CMAKE_SOURCE_DIR}/src/cpu/kernel_avx512.c
    ${CMAKE_SOURCE_DIR}/src/cpu/kernel_avx512bf16.c
    ${CMAKE_SOURCE_DIR}/src/cpu/kernel_amx.c PROPERTIES HEADER_FILE_ONLY TRUE)
endif()
