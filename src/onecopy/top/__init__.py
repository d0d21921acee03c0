"""`onecopy top`: a live table of pools, channels and processes.

`tables` and `pages` say what is shown, `arrange` sorts, filters and fits it to a width, and `plain`
prints it. None of them knows textual. `app` is the screen.
"""
