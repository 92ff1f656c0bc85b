# The CUDA backend: its kernels become fat binaries that kernels.c carries as data. Only headers of
# the toolkit are needed, and nothing of it is linked: the driver and the libraries are opened at
# run time, so the same program starts where there is no card.
set(STYX_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO (if nvcc and the headers are there), ON, OFF")
set_property(CACHE STYX_CUDA PROPERTY STRINGS AUTO ON OFF)
# Code for 8.0 runs on 8.6 and 8.9 as it is; what comes after 9.0 starts from the PTX of the newest.
set(STYX_CUDA_ARCHS 75 80 90 CACHE STRING "Compute capabilities that get code of their own")

set(STYX_HAVE_CUDA OFF)
if(NOT STYX_CUDA)
  message(STATUS "CUDA: off (STYX_CUDA=${STYX_CUDA})")
  return()
endif()

set(toolkit ENV CUDA_HOME ENV CUDA_PATH)
find_program(STYX_NVCC nvcc HINTS ${toolkit} PATHS /usr/local/cuda PATH_SUFFIXES bin)
set(lacking "")
if(NOT STYX_NVCC)
  list(APPEND lacking nvcc)
endif()
foreach(header IN ITEMS cuda.h cublasLt.h cudnn.h)
  string(MAKE_C_IDENTIFIER STYX_DIR_${header} folder)
  find_path(${folder} ${header} HINTS ${toolkit} PATHS /usr/local/cuda
            PATH_SUFFIXES include targets/x86_64-linux/include)
  mark_as_advanced(${folder})
  if(${folder})
    list(APPEND STYX_CUDA_INCLUDES ${${folder}})
  else()
    list(APPEND lacking ${header})
  endif()
endforeach()
mark_as_advanced(STYX_NVCC)
if(lacking)
  list(JOIN lacking ", " lacking)
  if(NOT STYX_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "STYX_CUDA=${STYX_CUDA}, but these were not found: ${lacking}")
  endif()
  message(STATUS "CUDA: off (not found: ${lacking})")
  return()
endif()
set(STYX_HAVE_CUDA ON)
list(REMOVE_DUPLICATES STYX_CUDA_INCLUDES)
list(JOIN STYX_CUDA_ARCHS ", " archs)
message(STATUS "CUDA: on (${STYX_NVCC}, code for ${archs})")

set(gencode "")
foreach(arch IN LISTS STYX_CUDA_ARCHS)
  list(APPEND gencode -gencode arch=compute_${arch},code=sm_${arch})
  set(newest ${arch})
endforeach()
list(APPEND gencode -gencode arch=compute_${newest},code=compute_${newest})
set(hopper_gencode -gencode arch=compute_90a,code=sm_90a) # hopper_*.cu: what runs on 9.0 alone

execute_process(COMMAND ${STYX_NVCC} --help OUTPUT_VARIABLE help)
set(compress "")
if(help MATCHES "--compress-mode") # from 12.8 on; a sixth of the size
  set(compress --compress-mode=size)
endif()

set(STYX_FATBINS "")
set(fatbins ${CMAKE_BINARY_DIR}/kernels)
file(MAKE_DIRECTORY ${fatbins})
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cuda/kernels/*.cu)
foreach(source IN LISTS kernel_sources)
  get_filename_component(name ${source} NAME_WE)
  set(fatbin ${fatbins}/${name}.fatbin)
  set(code ${gencode})
  if(name MATCHES "^hopper_")
    set(code ${hopper_gencode})
  endif()
  add_custom_command(OUTPUT ${fatbin}
    COMMAND ${STYX_NVCC} -fatbin ${compress} ${code} -std=c++17 -O3 -I ${CMAKE_SOURCE_DIR}/src
            -Werror all-warnings -MD -MF ${fatbin}.d -MT ${fatbin} -o ${fatbin} ${source}
    DEPENDS ${source} DEPFILE ${fatbin}.d
    COMMENT "Compiling kernels ${name}.cu" VERBATIM)
  list(APPEND STYX_FATBINS ${fatbin})
endforeach()
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/cuda/kernels.c PROPERTIES
  COMPILE_DEFINITIONS STYX_FATBINS="${fatbins}" OBJECT_DEPENDS "${STYX_FATBINS}")
