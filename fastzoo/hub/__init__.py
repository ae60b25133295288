"""Models from elsewhere: addresses (`places`), transfers (`transport`), the user's cache (`cache`, `contents`).

Nothing here is imported, and no library for the network, before something has to be fetched.
"""
