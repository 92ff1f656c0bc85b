# make install: libraries, header, command, man page, completions, the bundled model.
include(CMakePackageConfigHelpers)

install(TARGETS styx EXPORT styxTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${STYX_ARCHIVE} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/styx.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS styx-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(EXISTS ${CMAKE_SOURCE_DIR}/models/styx-emoji/model_index.json)
  install(DIRECTORY models/styx-emoji DESTINATION ${CMAKE_INSTALL_DATADIR}/styx/models)
endif()

# The man page and the completions are printed by the command from its own table of flags.
if(NOT CMAKE_CROSSCOMPILING)
  set(printed "")
  foreach(kind IN ITEMS man:styx.1 bash:styx.bash zsh:_styx fish:styx.fish)
    string(REPLACE ":" ";" pair ${kind})
    list(GET pair 0 what)
    list(GET pair 1 file)
    add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/${file} DEPENDS styx-cli
      COMMAND $<TARGET_FILE:styx-cli> help --print ${what} > ${CMAKE_BINARY_DIR}/${file} VERBATIM)
    list(APPEND printed ${CMAKE_BINARY_DIR}/${file})
  endforeach()
  add_custom_target(printed ALL DEPENDS ${printed})
  install(FILES ${CMAKE_BINARY_DIR}/styx.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${CMAKE_BINARY_DIR}/styx.bash RENAME styx
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${CMAKE_BINARY_DIR}/_styx
          DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${CMAKE_BINARY_DIR}/styx.fish
          DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

list(JOIN STYX_REQUIRES ", " STYX_REQUIRES_TEXT)
configure_file(cmake/styx.pc.in styx.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/styx.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/styx)
install(EXPORT styxTargets NAMESPACE styx:: DESTINATION ${package})
configure_package_config_file(cmake/styxConfig.cmake.in styxConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(styxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/styxConfig.cmake ${CMAKE_BINARY_DIR}/styxConfigVersion.cmake
        DESTINATION ${package})
