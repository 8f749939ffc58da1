"""Files on the web, fetched politely and stubbornly.

A few at a time of each host, again where that may help, and never from an address that only this machine or its
network can reach, unless that is allowed.

HTTP itself is urllib3's, which Beam brings along through requests: it is synchronous, as the threads are that decode;
its pools are for many of them; it holds a body against its declared length, bounds what unpacking makes of it, and has
one place where a connection is made. (fsspec's filesystem needs aiohttp, which is no dependency of ours, asks for each
file twice, and tells every failure as a missing file.)
"""
