module Main (main) where

import System.Environment (getEnv)

main :: IO ()
main = do
  name <- getEnv "NAME_TO_GREET"
  putStrLn ("Hello, " ++ name)
