"""What the platform is doing, in one picture: heartbeats and process states put together, and drawn for people.

picture - the facts and the verdict | rendering - the screen. It knows neither supervisord nor a database: process states
come in as plain values, so `platform status` tells the truth while everything else is down.
"""
